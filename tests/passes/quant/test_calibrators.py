"""Spans that calibrators find, against sums done by hand and searches done slowly."""

import numpy as np
import pytest

from graphrewrite.data.accumulators import Histogram
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.passes.quant.calibrators import Calibrator, calibrators
from graphrewrite.passes.quant.grid import GRIDS, Span
from graphrewrite.serial import from_json, to_json

GRID = GRIDS["uint8"]


def span_of(calibrator: Calibrator, *batches: list[float] | np.ndarray) -> Span:
    """Feed batches to a calibrator."""
    seen = calibrator.accumulator()
    for batch in batches:
        seen.update(np.asarray(batch, np.float32))
    return calibrator.span(seen.result(), GRID)


def outlier(seed: int = 0) -> np.ndarray:
    """A bell of values and one far away."""
    values = np.random.default_rng(seed).standard_normal(200_000)
    values[0] = 60.0
    return values


def test_min_max_holds_every_value_of_every_batch() -> None:
    assert span_of(calibrators.make("min_max"), [1, 2], [-3, 1]) == Span(-3, 2)


def test_moving_average_goes_a_tenth_of_the_way_with_each_batch() -> None:
    found = span_of(calibrators.make("moving_average"), [-1, 1], [-11, 2])

    assert found == pytest.approx((-2.0, 1.1))


def test_percentile_leaves_out_half_of_the_rest_at_each_end() -> None:
    values = np.repeat(np.arange(1000), 10)

    found = span_of(calibrators.make("percentile", percent=98.0, bins=1000), values)

    assert found == pytest.approx((10, 989), abs=1.0)


def test_mse_finds_the_span_that_a_search_on_the_values_finds() -> None:
    values = outlier()
    errors = {}
    for part in np.linspace(1, 1 / 12, 96):
        span = Span(values.min() * part, 60 * part)
        errors[span] = np.square(GRID.round(values, GRID.scale(span)) - values).mean()
    best = min(errors, key=lambda span: errors[span])

    found = span_of(calibrators.make("mse"), values[:1000], values[1000:])

    away = np.square(GRID.round(values, GRID.scale(found)) - values).mean()
    assert away <= 1.02 * errors[best]
    assert away < 0.9 * np.square(GRID.round(values, GRID.scale(Span(values.min(), 60))) - values).mean()


@pytest.mark.parametrize("name", ["percentile", "mse", "entropy"])
def test_one_outlier_is_clipped(name: str) -> None:
    found = span_of(calibrators.make(name), outlier())

    assert 2.5 < found.high < 50


@pytest.mark.parametrize("name", ["percentile", "mse", "entropy"])
def test_even_values_are_kept_whole(name: str) -> None:
    values = np.linspace(0, 1, 100_001)

    found = span_of(calibrators.make(name), values)

    assert found.high == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", list(calibrators))
def test_a_calibrator_is_the_same_read_back_from_json(name: str) -> None:
    made = calibrators.make(name)

    assert from_json(to_json(made, Calibrator), Calibrator) == made


@pytest.mark.parametrize("name", list(calibrators))
def test_a_tensor_of_zeros_gets_a_span_that_makes_a_scale(name: str) -> None:
    scale = GRID.scale(span_of(calibrators.make(name), [0.0, 0.0]))

    assert scale.step > 0 and GRID.round(np.zeros(1), scale) == 0


@pytest.mark.parametrize("name", list(calibrators))
def test_memory_does_not_grow_with_the_samples(name: str) -> None:
    seen = calibrators.make(name).accumulator()
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(3):
        seen.update(rng.standard_normal(10_000).astype(np.float32))
        held = vars(seen).values()
        sizes.append(sum(each.nbytes for each in held if isinstance(each, np.ndarray)))

    assert len(set(sizes)) == 1 and max(sizes) < 100_000


def test_extremes_that_are_not_finite_are_refused_and_histograms_leave_them_out() -> None:
    with pytest.raises(InvalidData, match="choose a calibrator with a histogram"):
        span_of(calibrators.make("min_max"), [np.inf, 0.0])
    values = np.append(np.linspace(-1, 1, 1000), np.nan)
    assert span_of(calibrators.make("mse"), values).high == pytest.approx(1, abs=0.02)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"\(50, 100\]"):
        calibrators.make("percentile", percent=20.0)
    with pytest.raises(InvalidConfig, match=r"\[0, 1\)"):
        calibrators.make("moving_average", momentum=1.0)
    assert isinstance(calibrators.make("entropy").accumulator(), Histogram)
