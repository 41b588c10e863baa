"""Patterns of zeros: what each drops, worked out by hand or one weight at a time."""

from itertools import product

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig, UnknownNameError
from graphrewrite.passes.sparse.masks import Floats, Mask, masks, named
from graphrewrite.passes.sparse.masks.blocks import Blocks
from graphrewrite.passes.sparse.masks.magnitude import Magnitude
from graphrewrite.passes.sparse.masks.n_of_m import NOfM
from graphrewrite.passes.sparse.masks.one_by_n import OneByN

RNG = np.random.default_rng(3)


def kept_means(
    weight: Floats, kept: np.ndarray, outputs: int, inputs: int, taps: int
) -> list[tuple[float, bool]]:
    """The mean |w| of every block, and whether all or nothing of it stayed; slow and obvious."""
    blocks = []
    o, i, t = weight.shape
    for row, column, tap in product(range(0, o, outputs), range(0, i, inputs), range(0, t, taps)):
        at = np.s_[row : row + outputs, column : column + inputs, tap : tap + taps]
        assert kept[at].all() or not kept[at].any()
        blocks.append((float(np.abs(weight[at]).mean()), bool(kept[at].all())))
    return blocks


@pytest.mark.parametrize(
    ("mask", "block"),
    [
        (Magnitude(), (1, 1, 1)),
        (OneByN(4), (4, 1, 9)),
        (OneByN(5), (5, 1, 9)),
        (Blocks(16, 4), (16, 4, 1)),
        (Blocks(8, 1), (8, 1, 1)),
    ],
)
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.75])
def test_the_weakest_blocks_go(mask: Mask, block: tuple[int, int, int], sparsity: float) -> None:
    weight = RNG.standard_normal((18, 7, 9))
    found = kept_means(weight, mask.keep(weight, sparsity), *block)
    gone = [mean for mean, stays in found if not stays]
    assert len(gone) == int(len(found) * sparsity)
    assert not gone or max(gone) <= min(mean for mean, stays in found if stays) + 1e-12


def test_two_of_four_by_hand() -> None:
    weight = np.array([[1.0, -4, 3, 2, 0, 5, 6], [9, 8, 7, -7, 1, 1, 1]])[:, :, None]
    kept = NOfM(2, 4).keep(weight, 0.0)[:, :, 0]
    assert kept.tolist() == [
        [False, True, True, False, False, True, True],
        [True, True, False, False, True, True, False],
    ]


def test_mass_is_ordered_as_theory_says() -> None:
    """At equal sparsity single weights keep most, then blocks in rows sorted by strength, then whole filters."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        weight = rng.standard_normal((16, 8, 9)) * rng.gamma(1.0, size=(16, 1, 1))
        weight = weight[np.argsort(-np.abs(weight).sum(axis=(1, 2)))]
        single, block = (np.abs(weight[m.keep(weight, 0.5)]).sum() for m in (Magnitude(), OneByN(4)))
        assert single >= block >= np.abs(weight[:8]).sum()


def test_sorting_by_strength_makes_better_blocks_on_average() -> None:
    """No theorem for one layer; over many with filters of unequal strength the gain is large and hardly ever lost."""
    gains = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        weight = rng.standard_normal((32, 12, 9)) * rng.gamma(1.0, size=(32, 1, 1))
        ordered = weight[np.argsort(-np.abs(weight).sum(axis=(1, 2)))]
        kept = [np.abs(w[OneByN(4).keep(w, 0.5)]).sum() for w in (weight, ordered)]
        gains.append(kept[1] / kept[0] - 1)
    assert np.mean(gains) > 0.05
    assert np.mean(np.array(gains) > 0) > 0.98


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("magnitude", Magnitude()),
        ("one_by_n", OneByN(8)),
        ("one_by_n:32", OneByN(32)),
        ("blocks:16x4", Blocks(16, 4)),
        ("n_of_m:1:4", NOfM(1, 4)),
    ],
)
def test_names_of_the_command_line(text: str, mask: Mask) -> None:
    assert named(text) == mask


@pytest.mark.parametrize("text", ["one_by_n:x", "one_by_n:0", "blocks:16", "n_of_m:4:2", "magnitude:3"])
def test_impossible_arguments(text: str) -> None:
    with pytest.raises(InvalidConfig):
        named(text)


def test_an_unknown_pattern_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="one_by_n"):
        named("one_by_m:4")


def test_a_sparsity_the_pattern_cannot_give() -> None:
    with pytest.raises(InvalidConfig, match=r"gives 0\.5"):
        NOfM(2, 4).keep(np.ones((2, 4, 1)), 0.75)


@pytest.mark.parametrize("name", list(masks))
def test_every_mask_obeys_the_protocol(name: str) -> None:
    mask = masks.find(name).of("")  # type: ignore[attr-defined]
    weight = RNG.standard_normal((9, 5, 4))
    sparsity = 0.5
    kept = mask.keep(weight, sparsity)
    assert isinstance(mask, Mask)
    assert kept.shape == weight.shape
    assert kept.dtype == bool
    assert np.array_equal(kept, mask.keep(weight.copy(), sparsity))
    assert np.array_equal(mask.keep(weight, sparsity), mask.keep(weight * 4, sparsity))
    assert mask.rows >= 1
