"""Numbers that count evenly: read off the nodes that make them, told from numbers that do not, and cut along."""

import numpy as np
import pytest

from graphrewrite.dims.counting import counting, counts_up
from graphrewrite.ir.shapes import infer
from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn, Style

cases = Cases()


def head(d: Drawing, x: Drawn, width: int) -> Drawn:
    return d.matmul(x, d.floats(width, 3, name="last"))


def row_starts(d: Drawing, x: Drawn, step: int) -> Drawn:
    """The column 0, step, 2 * step, ... with a row for each picture of the batch."""
    shape = d.op("Shape", x, shape=(len(x.shape),))
    batch = d.op("Gather", shape, d.const(np.int64(0)), shape=(), axis=0)
    rows = d.op("Range", d.const(np.int64(0)), batch, d.const(np.int64(1)), shape=(x.shape[0],))
    return d.unsqueeze(d.mul(rows, d.const(np.int64(step))), 1)


def strided(d: Drawing, step: int, columns: object) -> Drawn:
    """A layer, flattened and looked up at row starts plus `columns`."""
    x = d.input(2, 4)
    y = d.matmul(x, d.floats(4, 5, name="w"))
    flat = d.op("Reshape", y, d.ints(-1), shape=("M",))
    numbers = d.add(row_starts(d, x, step), d.const(np.asarray(columns, dtype=np.int64)))
    return d.op("Gather", flat, numbers, shape=(x.shape[0], 5), axis=0)


@cases.add("5: last[0] w[1]", opsets=(13, 17))
def a_look_up_that_only_counts_is_a_reshape(d: Drawing) -> Drawn:
    return head(d, strided(d, 5, [[0, 1, 2, 3, 4]]), 5)


@cases.add(pins={"w[1]": "looked up"}, symbolic=[True], moves=False)
def a_look_up_in_another_order_is_not(d: Drawing) -> Drawn:
    return head(d, strided(d, 5, [[1, 0, 2, 3, 4]]), 5)


@cases.add(pins={"w[1]": "looked up"}, symbolic=[True], moves=False)
def overlapping_rows_are_not_a_reshape(d: Drawing) -> Drawn:
    return head(d, strided(d, 4, [[0, 1, 2, 3, 4]]), 5)


@cases.add("5: last[0] u[1] w[1]", opsets=(11, 17))
def a_scatter_whose_index_was_expanded_loses_the_other_axes_with_the_data(d: Drawing) -> Drawn:
    """One row of three is overwritten; its number was spread over all channels by Expand."""
    x = d.input(2, 3, 4)
    y, z = d.matmul(x, d.floats(4, 5, name="w")), d.matmul(x, d.floats(4, 5, name="u"))
    row = d.slice(z, 1, 0, 1)
    index = d.expand(d.const(np.array([[[2]]])), row, (1, 5))
    return head(d, d.op("ScatterElements", y, index, row, shape=y.shape, axis=1), 5)


@cases.add("5: last[0] w[1]", opsets=(11, 17))
def a_gather_whose_index_was_expanded_loses_the_other_axes_with_the_data(d: Drawing) -> Drawn:
    x = d.input(2, 3, 4)
    y = d.matmul(x, d.floats(4, 5, name="w"))
    row = d.slice(y, 1, 0, 1)
    index = d.expand(d.const(np.array([[[2]]])), row, (1, 5))
    return head(d, d.op("GatherElements", y, index, shape=row.shape, axis=1), 5)


@cases.add("5: last[0] w[1]", opsets=(11, 17))
def a_position_picked_for_its_shape_alone_may_go(d: Drawing) -> Drawn:
    """The last channel is picked, and only the shape of what is left is asked for."""
    x = d.input(2, 3, 4)
    y = d.matmul(x, d.floats(4, 5, name="w"))
    plane = d.op("Gather", y, d.const(np.int64(-1)), shape=y.shape[:2], axis=2)
    shape = d.op("Shape", plane, shape=(2,))
    return d.add(head(d, y, 5), d.unsqueeze(d.op("ConstantOfShape", shape, shape=y.shape[:2]), 2))


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)


def test_steps_of_a_sum_of_ranges_are_found_in_both_worlds() -> None:
    d = Drawing(Style(17, symbolic=True, constant_nodes=0.0, computed_shapes=0.0, seed=1))
    x = d.input(2, 4)
    numbers = d.add(row_starts(d, x, 7), d.const(np.array([[3, 5, 7]])))
    model = d.model(numbers)

    info = infer(model)

    assert [counting(info, model.outputs[0], world) for world in (0, 1)] == [(3, (7, 2)), (3, (7, 2))]


@pytest.mark.parametrize(
    ("values", "length", "expected"),
    [
        (np.arange(12).reshape(3, 4), 12, True),
        (np.arange(12).reshape(3, 1, 4), 12, True),
        (np.arange(12).reshape(3, 4), 13, False),  # does not reach the end
        (np.arange(1, 13).reshape(3, 4), 12, False),  # does not begin at 0
        (np.arange(12).reshape(4, 3).T, 12, False),  # column by column
        (np.array([[0, 1], [1, 2]]), 4, False),  # overlaps
        (np.array([0, 2, 1, 3]), 4, False),  # the right ends, another order
    ],
)
def test_only_row_major_numbers_of_the_whole_length_count_up(
    values: np.ndarray, length: int, expected: bool
) -> None:
    d = Drawing(Style(17, symbolic=False, constant_nodes=0.0, computed_shapes=0.0, seed=1))
    numbers = d.const(values.astype(np.int64), "numbers")
    model = d.model(d.op("Identity", numbers, shape=values.shape))

    assert counts_up(infer(model), model.graph.initializers["numbers"], (length, length)) is expected
