"""Axes as factors: what a reshape does to labels, against element numbers pushed through numpy.

Every element of a tensor is numbered, and numpy reshapes and transposes the numbers in both sample worlds. However the
labels of the source are removed, an element of the result must be alive exactly when the element it came from is.
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.dims.axes import (
    UNKNOWN,
    Axis,
    Digit,
    Factor,
    Joint,
    Pair,
    Rigid,
    Rows,
    cut_factors,
    merge_digits,
    of_rows,
    permutation,
    rigid,
    rows_of,
    tie_axes,
)
from graphrewrite.dims.labels import Labels
from graphrewrite.dims.reshape import reshape
from tests.engine.dims.twin import free_terminals

Ints = npt.NDArray[np.int64]
WHY = "test"


def labelled(labels: Labels, size: int) -> Axis:
    return of_rows(labels.fresh(size))


def is_free(labels: Labels, axis: Axis) -> bool:
    return all(
        free_terminals(labels, f.labels[i : i + 1])
        for f in axis.factors
        if isinstance(f, Rows)
        for i in range(len(f.labels))
    )


# ------------------------------------------------------------------------------------------------------ by hand


def test_a_flatten_carries_channels_and_space_side_by_side() -> None:
    labels = Labels()
    channels = labelled(labels, 3)
    batch, space = rigid((2, 3)), rigid(4)
    out = reshape(labels, [batch, channels, space], [(2, 3), (12, 12)], WHY)
    assert [axis.sizes for axis in out] == [(2, 3), (12, 12)]
    assert rows_of(labels, out[1], WHY).ravel().tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert is_free(labels, channels)


def test_splitting_and_merging_again_ties_nothing() -> None:
    labels = Labels()
    channels = labelled(labels, 12)
    split = reshape(labels, [channels], [(3, 3), (4, 4)], WHY)
    whole = reshape(labels, split, [(12, 12)], WHY)
    assert rows_of(labels, whole[0], WHY).ravel().tolist() == list(range(1, 13))
    assert labels.count == 13  # no product was made


def test_a_channel_shuffle_is_a_permutation_of_the_labels() -> None:
    labels = Labels()
    split = reshape(labels, [labelled(labels, 6)], [(2, 2), (3, 3)], WHY)
    whole = reshape(labels, split[::-1], [(6, 6)], WHY)
    # Positions (j, i) of 3 x 2 come from i * 3 + j.
    assert rows_of(labels, whole[0], WHY).ravel().tolist() == [1, 4, 2, 5, 3, 6]
    assert labels.count == 7


def test_reading_one_digit_makes_the_block_a_product() -> None:
    labels = Labels()
    channels = labelled(labels, 6)
    heads, dims = reshape(labels, [channels], [(2, 2), (3, 3)], WHY)
    assert isinstance(heads.factors[0], Digit)
    assert len(rows_of(labels, heads, WHY)) == 2
    assert len(rows_of(labels, dims, WHY)) == 3
    # Six free positions became 2 + 3 free units.
    assert (
        len({unit for row in rows_of(labels, channels, WHY) for unit in free_terminals(labels, row[None])})
        == 5
    )


def test_batch_times_heads_is_one_dynamic_axis_with_free_heads() -> None:
    labels = Labels()
    channels = labelled(labels, 8)
    heads, dims = reshape(labels, [channels], [(4, 4), (2, 2)], WHY)
    merged = reshape(labels, [rigid((2, 3)), heads, rigid(5), dims], [(8, 12), (5, 5), (2, 2)], WHY)
    assert [axis.sizes for axis in merged] == [(8, 12), (5, 5), (2, 2)]
    assert not merged[0].is_static and not merged[0].is_rigid
    apart = reshape(labels, merged, [(2, 3), (4, 4), (5, 5), (2, 2)], WHY)
    assert apart[1].factors[0] is heads.factors[0]
    assert is_free(labels, channels)


def test_a_dynamic_axis_split_across_a_cut_is_pinned() -> None:
    labels = Labels()
    channels = labelled(labels, 4)
    # [batch 2 | 3, 4] seen as [4 | 6, 2] is fine, as [2, 4 | 6] is not: the boundary falls at another place per world.
    fine = reshape(labels, [rigid((2, 3)), channels], [(4, 6), (2, 2)], WHY)
    assert isinstance(fine[1].factors[0], Digit) and is_free(labels, channels)
    reshape(labels, [rigid((2, 3)), channels], [(2, 2), (4, 6)], WHY)
    assert not is_free(labels, channels)
    assert any("dynamic axis is split" in reason for reason in labels.reasons)


@pytest.mark.parametrize(
    ("sources", "target"),
    [
        ([(3, 3), UNKNOWN], [(3, 3), (4, 4)]),
        ([(3, 3)], [UNKNOWN]),
        ([(3, 3)], [(4, 4)]),
        ([(3, 3)], [(3, 3), (2, 2)]),
    ],
)
def test_what_cannot_be_followed_is_pinned_with_a_reason(sources: list[Pair], target: list[Pair]) -> None:
    labels = Labels()
    channels = labelled(labels, 3)
    out = reshape(labels, [channels, *(rigid(pair) for pair in sources[1:])], target, WHY)
    assert [axis.sizes for axis in out] == target
    assert all(axis.is_rigid and axis.cause for axis in out)
    assert not is_free(labels, channels)


def test_an_axis_that_meets_a_rigid_one_is_pinned_with_its_cause() -> None:
    labels = Labels()
    channels = labelled(labels, 3)
    tie_axes(labels, channels, rigid(3, "graph input x"), WHY)
    assert not is_free(labels, channels)
    assert any("graph input x" in reason for reason in labels.reasons)


def test_permutation_of_incomplete_digits_is_unknown() -> None:
    joint = Joint(Labels().fresh(12))
    assert permutation([Digit(joint, 4, 12), Digit(joint, 1, 2)]) is None
    assert permutation([Digit(joint, 4, 12), Digit(joint, 2, 4)]) is None
    order = permutation([Digit(joint, 1, 4), Digit(joint, 4, 12)])
    assert order is not None and order.tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]


# ------------------------------------------------------------------------- cut_factors and merge_digits, all orders


def positions(factors: Sequence[Rigid | Rows | Digit], world: int) -> list[tuple[tuple[int, int], ...]]:
    """Name every position of a product of factors by what it is made of: (block, position in the block)."""
    names: list[tuple[tuple[int, int], ...]] = [()]
    for factor in factors:
        if isinstance(factor, Digit):
            step = [((id(factor.joint), value * factor.low),) for value in range(factor.high // factor.low)]
        elif isinstance(factor, Rows):
            step = [
                ((id(factor.joint or factor), value if factor.order is None else int(factor.order[value])),)
                for value in range(len(factor.labels))
            ]
            if factor.shuffled is not None:
                step = [((id(factor.shuffled), place[0][1]),) for place in step]
        else:
            step = [((0, value),) for value in range(factor.sizes[world])]
        names = [(*name, *more) for name in names for more in step]
    return [_summed(name) for name in names]


def _summed(name: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Add up the digits of one block: they are multiples of their strides. Rigid parts keep their order."""
    blocks: dict[int, int] = {}
    for block, value in name:
        if block:
            blocks[block] = blocks.get(block, 0) + value
    return tuple(sorted(blocks.items()))


@pytest.mark.parametrize(
    "sizes",
    [[(6, 6), (2, 2), (2, 2)], [(2, 2), (3, 3), (4, 4)], [(3, 3), (8, 8)], [(24, 24)], [(1, 1), (24, 24)]],
)
def test_cutting_factors_keeps_every_position_where_it_is(sizes: list[Pair]) -> None:
    labels = Labels()
    joint = Joint(labels.fresh(12))
    for first, second in permutations([Digit(joint, 4, 12), Digit(joint, 1, 4)]):
        choices: tuple[list[Factor], ...] = (
            [first, second, Rigid((2, 2))],
            [Rigid((2, 2)), first, second],
            [first, Rows(labels.fresh(2)), second],
        )
        for factors in choices:
            cut = cut_factors(factors, sizes)
            if cut is None:
                continue
            assert [tuple(np.prod([f.sizes for f in part], axis=0).tolist()) for part in cut] == sizes
            assert positions([f for part in cut for f in part], 0) == positions(factors, 0)


def test_merging_digits_keeps_every_position_where_it_is() -> None:
    labels = Labels()
    whole = 0
    for order in permutations(range(3)):
        joint = Joint(labels.fresh(12))
        digits = [Digit(joint, 4, 12), Digit(joint, 2, 4), Digit(joint, 1, 2)]
        for last in (2, 3):
            factors = [digits[k] for k in order[:last]]
            merged = merge_digits(factors)
            assert positions(merged, 0) == positions(factors, 0)
            whole += any(isinstance(f, Rows) for f in merged)
    assert whole == 6  # every complete set of digits is a block again, in whatever order
