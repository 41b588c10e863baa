"""Tables that several layers read: each layer has labels of its own, unless all keep the same anyway."""

import numpy as np
import pytest

from graphrewrite.dims import groups, shrink, sweep
from tests.engine.dims.cases import Case, Cases, demand, described
from tests.support.drawing import Drawing, Drawn

cases = Cases()


def layer(d: Drawing, x: Drawn, table: Drawn, name: str) -> Drawn:
    """Widen, meet the table, narrow again: weights {name}w and {name}v."""
    wide = d.matmul(x, d.floats(4, 6, name=f"{name}w"))
    met = d.unary("Tanh", d.mul(wide, table))
    return d.matmul(met, d.floats(6, 4, name=f"{name}v"))


def spread(d: Drawing, *sizes: int) -> Drawn:
    """Make a table of a vector and sizes: [3, 1] by [6] as a product, then a cosine."""
    steps, turns = d.floats(sizes[0], 1, scale=1.0), d.floats(sizes[1], scale=1.0)
    return d.unary("Cos", d.op("Mul", steps, turns, shape=tuple(sizes)))


@cases.add("6: av[0] aw[1]", "4: av[1] bw[0]", "6: bv[0] bw[1]", opsets=(13, 18))
def computed_table(d: Drawing) -> Drawn:
    """Rotary tables are computed once; the layers that read one need not lose the same dims."""
    x, table = d.input(2, 3, 4), spread(d, 3, 6)
    return layer(d, layer(d, x, table, "a"), table, "b")


@cases.add("6: av[0] aw[1]", "4: av[1] bw[0]", "6: bv[0] bw[1]", opsets=(13,))
def stored_table(d: Drawing) -> Drawn:
    """The same for a table that is a constant: it is kept once, whole."""
    x, table = d.input(2, 3, 4), d.floats(3, 6, scale=1.0, name="table")
    return layer(d, layer(d, x, table, "a"), table, "b")


@cases.add("6: aw[1] last[0] table[1]", opsets=(13,))
def readers_that_agree(d: Drawing) -> Drawn:
    """Where both readers are one stream, the table is a member of their group and is cut itself."""
    x, table = d.input(2, 3, 4), d.floats(3, 6, scale=1.0, name="table")
    stream = d.matmul(x, d.floats(4, 6, name="aw"))
    stream = d.add(stream, d.unary("Tanh", d.add(stream, table)))
    return d.matmul(d.add(stream, table), d.floats(6, 4, name="last"))


@cases.add("5: ar[1]*4 ar[2] as[1]*8 aw[1]*4 bw[2]", "5: br[1]*4 br[2] bs[1]*8 bw[1]*4 last[0]", opsets=(14,))
def zero_states(d: Drawing) -> Drawn:
    """Two layers begin with one tensor of zeros, whose size follows the batch."""
    x = d.input(2, 3, 4)
    by_step = d.transpose(x, 1, 0, 2)
    batch = x.shape[0]
    size = d.concat(
        d.ints(1),
        d.op("Shape", x, shape=(1,), start=0, end=1) if d.opset >= 15 else batch_of(d, x),
        d.ints(5),
        axis=0,
    )
    zeros = d.op("Expand", d.scalar(0.0), size, shape=(1, batch, 5))
    y = by_step
    for name, width in (("a", 4), ("b", 5)):
        w, r = d.floats(1, 20, width, name=f"{name}w"), d.floats(1, 20, 5, name=f"{name}r")
        b = d.floats(1, 40, name=f"{name}s")
        out = d.op("LSTM", y, w, r, b, None, zeros, zeros, shape=(3, 1, batch, 5), hidden_size=5)
        y = d.squeeze(out, 1)
    return d.matmul(y, d.floats(5, 3, name="last"))


def batch_of(d: Drawing, x: Drawn) -> Drawn:
    shape = d.op("Shape", x, shape=(len(x.shape),))
    return d.op("Gather", shape, d.ints(0), shape=(1,), axis=0)


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)


def test_without_labels_of_their_own_readers_are_tied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expectation above can fail: with plain operands the two layers are one group."""
    monkeypatch.setattr(sweep.Step, "own", sweep.Step.axes)
    (case,) = [c for c in cases if c.name == "computed-table" and c.opset == 13 and c.symbolic]
    assert described(groups(case.model())) == ["4: av[1] bw[0]", "6: av[0] aw[1] bv[0] bw[1] c_3[0]"]


def test_the_table_is_gathered_only_where_something_goes() -> None:
    (case,) = [c for c in cases if c.name == "stored-table" and c.symbolic]
    found = groups(case.model())
    dead = found.none_dead()
    dead[found.groups[0].unit_ids[:2]] = True
    cut = shrink(found.analysis, found.dead_labels(dead)).model
    assert [node.op for node in cut.nodes()].count("Gather") == 1
    assert cut.weights["table"].shape == (3, 6)
    assert np.array_equal(cut.weights["table"], found.analysis.model.weights["table"])
