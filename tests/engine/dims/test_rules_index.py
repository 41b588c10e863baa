"""Rules of operators that pick and write positions, and of the masks and indices they are given."""

import numpy as np
import pytest

from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn

cases = Cases()


def sequence(d: Drawing, width: int) -> Drawn:
    return d.matmul(d.input(2, 3, 4), d.floats(4, width, name="w"))


def head(d: Drawing, x: Drawn) -> Drawn:
    return d.matmul(x, d.floats(x.size(-1), 3, name="last"))


def spread(d: Drawing, x: Drawn, like: Drawn) -> Drawn:
    """Expand to the shape of another tensor, asked of it when the model runs."""
    shape = d.op("Shape", like, shape=(len(like.shape),))
    return d.op("Expand", x, shape, shape=like.shape)


@cases.add("5: last[0] w[1]", opsets=(13, 18))
def mask_spread_over_the_channels(d: Drawing) -> Drawn:
    """Booleans made from rigid inputs follow the width they are spread over."""
    x = sequence(d, 5)
    mask = d.op("Greater", d.input(x.shape[0], 3, 1), d.scalar(0.0), shape=(x.shape[0], 3, 1))
    return head(d, d.op("Where", spread(d, mask, x), x, d.scalar(0.5), shape=x.shape))


@cases.add("5: last[0] w[1]", opsets=(13, 18), symbolic=[False])
def step_written_by_a_spread_index(d: Drawing) -> Drawn:
    """One position of the sequence is overwritten in every channel, as torch.export writes select_scatter."""
    x = sequence(d, 5)
    piece = d.slice(x, 1, 0, 1)
    index = spread(d, d.const(np.array(2, np.int64)), piece)
    return head(d, d.op("ScatterElements", x, index, piece, shape=x.shape, axis=1))


@cases.add("1: w[1]*3", "3: last[0]*4 w[1]*5", "4: last[0]*3 w[1]*3", opsets=(13,))
def rows_picked_by_known_numbers(d: Drawing) -> Drawn:
    """An index list as torch writes it: the axis comes first, GatherND picks from it, the others pass."""
    x = d.reshape(sequence(d, 15), 2, 3, 5, 3)
    first = d.transpose(x, 2, 0, 1, 3)
    index = d.const(np.array([[0], [2], [-1], [3]], np.int64))
    y = d.op("GatherND", first, index, shape=(4, *first.shape[1:]))
    back = d.transpose(y, 1, 2, 0, 3)
    return head(d, d.reshape(back, 2, 3, 12))


@cases.add("5: last[0] places[1] w[1]", opsets=(13,))
def shuffled_places_beside_a_cut_width(d: Drawing) -> Drawn:
    """Places change their order and stay; the reshapes that do it repeat the width, which does not."""
    x = d.add(d.matmul(d.input(2, 4, 4), d.floats(4, 5, name="w")), d.floats(4, 5, name="places"))
    y = d.transpose(d.reshape(x, 2, 2, 2, 5), 0, 2, 1, 3)
    return head(d, d.reshape(y, 2, 4, 5))


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)
