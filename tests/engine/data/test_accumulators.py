"""Streaming statistics against plain numpy over everything at once."""

from typing import TypeVar

import ml_dtypes
import numpy as np
import pytest

from graphrewrite.data import Accumulator, Gram, Histogram, MinMax, Moments, Rank
from graphrewrite.errors import InvalidConfig, InvalidData, ShapeError

BATCHES = (5, 1, 8, 3)


def stream(seed: int = 0, shape: tuple[int, ...] = (4, 3, 2), dtype: type = np.float32) -> list[np.ndarray]:
    """Return batches of different sizes with channels on axis 1."""
    rng = np.random.default_rng(seed)
    return [(3 + 2 * rng.standard_normal((size, *shape))).astype(dtype) for size in BATCHES]


Kind = TypeVar("Kind", bound=Accumulator)


def fed(accumulator: Kind, batches: list[np.ndarray]) -> Kind:
    for batch in batches:
        accumulator.update(batch)
    return accumulator


@pytest.mark.parametrize("axis", [1, -3])
def test_min_max_per_channel(axis: int) -> None:
    batches = stream()
    whole = np.concatenate(batches)
    low, high = fed(MinMax(axis), batches).result()
    assert np.array_equal(low, whole.min(axis=(0, 2, 3))) and np.array_equal(high, whole.max(axis=(0, 2, 3)))
    assert low.dtype == np.float64


def test_min_max_over_everything_shows_a_nan() -> None:
    clean = fed(MinMax(), [np.array([[1.0, -2.0]]), np.array([[5.0, 0.0]])]).result()
    assert (clean.low.tolist(), clean.high.tolist()) == ([-2.0], [5.0])
    dirty = fed(MinMax(), [np.array([1.0]), np.array([np.nan])]).result()
    assert np.isnan(dirty.low).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16, np.int8])
def test_moments_per_channel(dtype: type) -> None:
    batches = stream(dtype=dtype)
    whole = np.concatenate(batches).astype(np.float64)
    spread = fed(Moments(1), batches).result()
    assert spread.rows == 17 * 6
    np.testing.assert_allclose(spread.mean, whole.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(spread.variance, whole.var(axis=(0, 2, 3)), rtol=1e-12)


def test_moments_survive_a_mean_that_dwarfs_the_spread() -> None:
    rng = np.random.default_rng(1)
    batches = [1e8 + rng.standard_normal((100, 2)) for _ in range(20)]
    whole = np.concatenate(batches)
    spread = fed(Moments(-1), batches).result()
    np.testing.assert_allclose(spread.variance, whole.var(axis=0), rtol=1e-6)
    # the textbook shortcut loses everything here, so the test can fail
    naive = (whole**2).mean(axis=0) - whole.mean(axis=0) ** 2
    assert not np.allclose(naive, whole.var(axis=0), rtol=1e-2)


def test_moments_of_more_rows_than_fit_one_block() -> None:
    values = np.arange(50_000, dtype=np.float32).reshape(-1, 1)
    spread = fed(Moments(-1), [values]).result()
    assert spread.rows == 50_000
    np.testing.assert_allclose(spread.mean, [24_999.5])


def test_gram_is_the_sum_of_outer_products_over_all_positions() -> None:
    batches = stream()
    rows = np.concatenate([np.moveaxis(b, 1, -1).reshape(-1, 4) for b in batches]).astype(np.float64)
    products = fed(Gram(1), batches).result()
    np.testing.assert_allclose(products.gram, rows.T @ rows, rtol=1e-12)
    np.testing.assert_allclose(products.x_sum, rows.sum(axis=0), rtol=1e-12)
    assert products.rows == 17 * 6 and products.cross is None


def test_gram_of_a_pair_solves_least_squares() -> None:
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((4, 3))
    gram = Gram(-1)
    for size in BATCHES:
        x = rng.standard_normal((size, 6, 4))
        gram.update(x, x @ weights)
    found = gram.result()
    assert found.cross is not None and found.y_sum is not None
    np.testing.assert_allclose(np.linalg.solve(found.gram, found.cross), weights, rtol=1e-9)


def test_gram_takes_targets_of_another_layout_but_not_of_another_size() -> None:
    gram = Gram(1, target_axis=-1)
    gram.update(np.ones((2, 3, 5)), np.ones((2, 5, 7)))
    cross = gram.result().cross
    assert cross is not None and cross.shape == (3, 7)
    with pytest.raises(ShapeError, match=r"10 rows of features .* and 8 rows of targets"):
        gram.update(np.ones((2, 3, 5)), np.ones((2, 4, 7)))
    with pytest.raises(ShapeError, match="always or never"):
        gram.update(np.ones((2, 3, 5)))


def test_histogram_within_a_given_range_equals_numpy() -> None:
    batches = stream()
    histogram = fed(Histogram(16, low=-10.0, high=16.0), batches).result()
    counts, edges = np.histogram(np.concatenate(batches).astype(np.float64), bins=16, range=(-10.0, 16.0))
    assert np.array_equal(histogram.counts[0], counts)
    np.testing.assert_allclose(histogram.edges, edges)


def test_histogram_doubles_its_range_without_losing_a_value() -> None:
    histogram = Histogram(4)
    histogram.update(np.array([0.0, 1.0, 2.0, 4.0]))  # edges 0 1 2 3 4
    assert histogram.result().counts.tolist() == [[1, 1, 1, 1]]
    histogram.update(np.array([7.0]))  # to 0..8: pairs merge, 7 falls into [6, 8]
    assert histogram.result().counts.tolist() == [[2, 2, 0, 1]]
    assert histogram.result().edges.tolist() == [0, 2, 4, 6, 8]
    histogram.update(np.array([-1.0]))  # to -8..8
    assert histogram.result().counts.tolist() == [[0, 1, 4, 1]]
    assert histogram.result().edges.tolist() == [-8, -4, 0, 4, 8]


def test_histogram_per_channel_and_its_rest() -> None:
    histogram = Histogram(2, axis=1, low=0.0, high=2.0)
    histogram.update(np.array([[0.5, 1.5], [0.1, np.nan], [2.0, np.inf]]))
    assert histogram.result().counts.tolist() == [[2, 1], [0, 1]]
    assert histogram.result().left_out == 2


def test_histogram_of_one_value_repeated() -> None:
    histogram = Histogram(4)
    histogram.update(np.full(9, 5.0))
    counts, edges, _ = histogram.result()
    assert counts.sum() == 9 and edges[0] < 5.0 < edges[-1]


@pytest.mark.parametrize(
    ("bins", "low", "high"), [(3, None, None), (0, None, None), (4, 1.0, None), (4, 2.0, 1.0)]
)
def test_impossible_histograms_are_refused(bins: int, low: float | None, high: float | None) -> None:
    with pytest.raises(InvalidConfig, match="Histogram"):
        Histogram(bins, low=low, high=high)


def test_rank_of_feature_maps() -> None:
    flat = np.outer([1, 2, 3], [1, 0, 2]).astype(np.float32)  # rank 1
    full = np.eye(3, dtype=np.float32)  # rank 3
    none = np.zeros((3, 3), np.float32)
    rank = Rank()
    rank.update(np.stack([np.stack([flat, full])]))
    rank.update(np.stack([np.stack([none, full]), np.stack([full, none])]))
    found = rank.result()
    assert found.samples == 3
    np.testing.assert_allclose(found.rank, [(1 + 0 + 3) / 3, (3 + 3 + 0) / 3])
    # Singular values: |(1, 2, 3)| |(1, 0, 2)| = sqrt(70) once, and three times 1.
    np.testing.assert_allclose(found.nuclear, [(70**0.5 + 0 + 3) / 3, (3 + 3 + 0) / 3])


def test_rank_does_not_count_rounding() -> None:
    rng = np.random.default_rng(0)
    maps = np.stack([np.outer(*rng.standard_normal((2, 16))) for _ in range(5)])[None]
    single, double = Rank(), Rank()
    single.update(maps.astype(np.float32))  # each entry rounded by itself: full rank to a double
    double.update(maps.astype(np.float32).astype(np.float64))
    assert single.result().rank.tolist() == [1] * 5
    assert (double.result().rank > 10).all()


def test_maps_without_numbers_and_with_what_is_none() -> None:
    empty, broken = Rank(), Rank()
    empty.update(np.zeros((2, 3, 0, 4), np.float32))
    assert empty.result().rank.tolist() == [0, 0, 0]
    with pytest.raises(InvalidData, match="not finite, which has no rank"):
        broken.update(np.full((1, 2, 3, 3), np.nan, np.float32))


def test_rank_of_rows_volumes_and_channels_last() -> None:
    rank = Rank(axis=-1)
    rank.update(np.stack([np.eye(4)[..., None] * [1.0, 0.0]]))  # [1, 4, 4, 2]
    assert rank.result().rank.tolist() == [4.0, 0.0]
    row = Rank(axis=1)
    row.update(np.array([[[1.0, 2.0], [0.0, 0.0]]]))
    assert row.result().rank.tolist() == [1.0, 0.0]
    volume = Rank(axis=1)
    volume.update(np.arange(24.0).reshape(1, 1, 2, 3, 4))  # two rows of twelve
    assert volume.result().rank.tolist() == [2.0]


@pytest.mark.parametrize(
    "accumulator", [MinMax(), Moments(), Gram(), Histogram(), Rank()], ids=lambda a: type(a).__name__
)
def test_no_data_is_an_error_and_every_accumulator_obeys_the_protocol(accumulator: Accumulator) -> None:
    assert isinstance(accumulator, Accumulator)
    with pytest.raises(InvalidData, match="has seen no values"):
        accumulator.result()


@pytest.mark.parametrize(
    "accumulator",
    [MinMax(1), Moments(1), Gram(1), Histogram(4, axis=1), Rank()],
    ids=lambda a: type(a).__name__,
)
def test_channels_must_stay_the_same(accumulator: Accumulator) -> None:
    accumulator.update(np.ones((2, 3)))
    with pytest.raises(ShapeError, match="seen 3 channels and now gets 4"):
        accumulator.update(np.ones((2, 4)))


def test_an_axis_that_is_not_there_and_text_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"channel axis is 2, but the tensor has shape \[2, 3\]"):
        MinMax(2).update(np.ones((2, 3)))
    with pytest.raises(ShapeError, match="samples on axis 0"):
        Rank(0).update(np.ones((2, 3)))
    with pytest.raises(InvalidData, match="expected real numbers"):
        Moments().update(np.array(["a"], dtype=object))


def test_a_result_does_not_change_when_more_comes_in() -> None:
    moments, histogram = Moments(1), Histogram(4, low=0.0, high=4.0)
    moments.update(np.ones((2, 1)))
    histogram.update(np.ones(3))
    mean, counts = moments.result().mean, histogram.result().counts
    moments.update(np.full((2, 1), 9.0))
    histogram.update(np.ones(3))
    assert mean.tolist() == [1.0] and counts.sum() == 3
