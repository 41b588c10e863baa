"""The two totals of a budget are those of the whole table."""

from collections.abc import Callable

import numpy as np
import pytest

from graphrewrite import cost
from graphrewrite.ir import Builder, Model
from tests.bench.networks import chain, encoder, fan, nested, shared, tied, tower

DRAWN = [
    pytest.param(lambda: chain(20), id="chain"),
    pytest.param(lambda: tower(21), id="tower"),
    pytest.param(lambda: encoder(58), id="encoder"),
    pytest.param(lambda: nested(3, layers=2), id="branches inside branches"),
    pytest.param(lambda: shared(5), id="one weight, many readers"),
    pytest.param(lambda: tied(50), id="a tied table"),
    pytest.param(lambda: fan(4), id="split and concat"),
]


@pytest.mark.parametrize("draw", DRAWN)
def test_totals_are_those_of_the_table(draw: Callable[[], Model]) -> None:
    model = draw()
    table, sums = cost.of(model), cost.totals(model)

    assert (sums.macs, sums.params, sums.batch) == (table.macs, table.params, table.batch)
    assert sums.per_sample("macs") == table.per_sample("macs")
    assert sums.total("params") == table.total("params")


def test_a_convolution_counts_by_hand() -> None:
    b = Builder()
    x = b.input(["N", 3, 5, 5], "image")
    model = b.model(b.relu(b.conv(x, 4, 3, 3)))

    sums = cost.totals(model)

    # 4 x 5 x 5 outputs of 27 taps each; 4 x 27 weights and 4 biases.
    assert sums.per_sample("macs") == 100 * 27
    assert sums.params == 4 * 27 + 4


def test_a_weight_the_graph_returns_is_counted() -> None:
    b = Builder()
    weight = b.constant(np.ones((2, 3), np.float32))
    model = b.model(b.op("MatMul", b.input([1, 2], "x"), weight))
    model.graph.outputs.append(weight)

    assert cost.totals(model).params == cost.of(model).params == 6


def test_an_operator_nobody_knows_counts_nothing() -> None:
    b = Builder()
    x = b.input([1, 2], "x")
    model = b.model(
        b.op("MatMul", b.op("Riddle", x, domain="nobody"), b.constant(np.ones((2, 3), np.float32)))
    )

    sums, table = cost.totals(model), cost.of(model)

    assert (sums.macs, sums.params) == (table.macs, table.params) == (0, 6)
