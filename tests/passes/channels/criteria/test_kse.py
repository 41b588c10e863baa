"""Kernel sparsity and entropy: by hand, against loops over pairs of kernels, and on planted layers."""

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels.criteria import Evidence, criteria
from graphrewrite.passes.channels.criteria.kse import Kse, entropy
from tests.passes.channels.nets import Wide, floats, only_group, pair


def slow_entropy(kernels: Wide, neighbours: int = 5) -> float:
    """The definition, one pair at a time."""
    density = []
    for i, one in enumerate(kernels):
        others = sorted(float(np.linalg.norm(one - two)) for j, two in enumerate(kernels) if j != i)
        density.append(sum(others[:neighbours]))
    whole = sum(density)
    return -sum(d / whole * np.log2(d / whole) for d in density if d) if whole else 0.0


def slow_indicator(weight: Wide, alpha: float = 1.0, neighbours: int = 5) -> Wide:
    """v of every input channel of a convolution's weight [outputs, inputs, height, width]."""
    s = np.array([np.abs(weight[:, c]).sum() for c in range(weight.shape[1])])
    e = np.array(
        [slow_entropy(weight[:, c].reshape(len(weight), -1), neighbours) for c in range(weight.shape[1])]
    )
    s, e = ((x - x.min()) / (x.max() - x.min()) for x in (s, e))
    v = np.sqrt(s / (1 + alpha * e))
    return np.asarray((v - v.min()) / (v.max() - v.min()))


def read_by(weight: Wide) -> Model:
    """Channels made by a product with one and read by a convolution of this weight."""
    b = Builder(seed=1)
    x = b.input(["N", 2, 5, 5], "x")
    y = b.relu(b.conv(x, weight.shape[1], 2, name="made"))
    return b.model(b.op("Conv", y, b.constant(floats(weight), "read"), kernel_shape=list(weight.shape[2:])))


@pytest.mark.parametrize("shape", [(9, 6, 3, 3), (6, 9, 3, 1), (12, 5, 1, 1), (4, 7, 2, 2)])
@pytest.mark.parametrize(("alpha", "neighbours"), [(1.0, 5), (2.5, 2)])
def test_the_score_is_the_indicator_of_what_reads_the_channels(
    shape: tuple[int, int, int, int], alpha: float, neighbours: int
) -> None:
    weight = floats(np.random.default_rng(0).standard_normal(shape)).astype(np.float64)
    model = read_by(weight)

    score = criteria.make("kse", alpha=alpha, neighbours=neighbours).score(only_group(model), Evidence(model))

    loop = slow_indicator(weight, alpha, neighbours)
    np.testing.assert_allclose(score, loop / loop.mean(), rtol=1e-9)


def test_kernels_that_a_reshape_puts_side_by_side_are_another_score() -> None:
    """A mutation: with the axes of outputs and inputs mixed up, as released code has it, the loop does not agree."""
    weight = np.random.default_rng(0).standard_normal((9, 6, 3, 3))
    mixed = weight.reshape(6, 9, 3, 3).transpose(1, 0, 2, 3)

    right, wrong = slow_indicator(weight), slow_indicator(mixed)

    np.testing.assert_allclose(Kse().indicator(weight.transpose(1, 0, 2, 3).reshape(6, 9, 9)), right)
    assert np.abs(right - wrong).max() > 0.1


def test_by_hand() -> None:
    # The first unit is read by 1, 2 and 4: nearest gaps 1, 1, 2 of 4; the second by 3, 3, 3: no spread at all; the
    # third by 2, 0 and -2, all 2 from the next.
    model = pair(first=np.eye(3), second=[[1, 3, 2], [2, 3, 0], [4, 3, -2]])

    score = criteria.make("kse", neighbours=1).score(only_group(model), Evidence(model))

    s, e = np.array([7, 9, 4]), np.array([1.5, 0, np.log2(3)])
    v = np.sqrt((s - 4) / 5 / (1 + e / np.log2(3)))
    np.testing.assert_allclose(score, v / v.mean(), rtol=1e-6)


def test_kernels_in_a_clump_have_less_entropy_than_kernels_all_over() -> None:
    rng = np.random.default_rng(5)
    spread = rng.standard_normal((32, 9))
    clump = spread.copy()
    clump[:16] = clump[0]

    assert entropy(spread) == pytest.approx(5, abs=0.05)  # log2(32)
    assert entropy(clump) <= 4.05  # the clump has no part in it
    assert entropy(np.tile(spread[:1], (32, 1))) == 0
    assert entropy(spread[:1]) == 0


def test_few_kernels_have_fewer_neighbours_and_lines_are_planes() -> None:
    rng = np.random.default_rng(6)
    for count in (2, 3, 5, 6, 7, 40):
        line = rng.standard_normal((count, 1))
        line[: count // 2] = np.round(line[: count // 2])  # some of them equal
        plane = np.concatenate([line, np.zeros_like(line)], axis=1)
        assert entropy(line) == pytest.approx(slow_entropy(line), rel=1e-12)
        assert entropy(plane) == pytest.approx(slow_entropy(line), rel=1e-12)


def test_a_channel_that_nobody_listens_to_scores_zero() -> None:
    weight = np.random.default_rng(3).standard_normal((8, 4, 3, 3))
    weight[:, 2] = 0
    model = read_by(weight)

    score = criteria.make("kse").score(only_group(model), Evidence(model))

    assert score[2] == 0 and (np.delete(score, 2) > 0).all()


@pytest.mark.parametrize("options", [{"alpha": -1.0}, {"neighbours": 0}, {"neighbours": True}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidConfig, match=f"Kse.{next(iter(options))} is"):
        criteria.make("kse", **options)
