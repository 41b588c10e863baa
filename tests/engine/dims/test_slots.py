"""Grouped convolutions whose weights are made from constants: each group keeps slots of its own."""

from collections.abc import Callable

import numpy as np
import pytest

from graphrewrite.dims import cut_weights, groups, reference_ragged, shrink
from graphrewrite.dims.axes import rigid
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.record import Grouped
from graphrewrite.dims.slots import Making, taken
from graphrewrite.ir import Array
from tests.engine.dims.cases import Case, Cases, demand, demand_a_fault
from tests.support.drawing import Drawing, Drawn

cases = Cases()


def grouped(d: Drawing, weight: Drawn, count: int = 2) -> Drawn:
    """Eight channels, a convolution with this weight [8, 8 / count, 3, 3], and a reader of its results."""
    x = d.input(2, 2, 5, 5)
    y = d.op("Conv", x, d.floats(8, 2, 1, 1, name="w"), shape=(x.shape[0], 8, 5, 5))
    y = d.op("Conv", y, weight, shape=(x.shape[0], 8, 3, 3), group=count)
    return d.conv(y, 3, 1, bias=False, weight=d.floats(3, 8, 1, 1, name="last"))


def stored(d: Drawing, *shape: int) -> Drawn:
    return d.floats(*(shape or (8, 4, 3, 3)), name="v", offset=0.3)


@cases.add("8: last[1] v[0]", "8: w[0]", opsets=(13, 18))
def standardised(d: Drawing) -> Drawn:
    return grouped(d, d.standardise(stored(d), 1, 2, 3))


@cases.add("8: last[1] v[0]", "8: w[0]", opsets=(11,))
def standardised_as_rows(d: Drawing) -> Drawn:
    rows = d.standardise(d.reshape(stored(d), 8, 36), 1)
    return grouped(d, d.reshape(rows, 8, 4, 3, 3))


@cases.add("8: g[0] last[1] m[0] o[0] s[0] u[0] v[1]", "8: w[0]", opsets=(15,))
def standardised_by_batch_norm_from_stored_rows(d: Drawing) -> Drawn:
    """The older exporter stores the rows, and standardises them with batch statistics."""
    s, o, m, u = (d.floats(8, name=n, offset=1.0, scale=0.1) for n in "somu")
    rows = d.ops(
        "BatchNormalization",
        stored(d, 1, 8, 36),
        s,
        o,
        m,
        u,
        shapes=[(1, 8, 36), (8,), (8,)],
        training_mode=1,
    )[0]
    weight = d.mul(d.reshape(rows, 8, 4, 3, 3), d.floats(8, 1, 1, 1, name="g", offset=1.0))
    return grouped(d, weight)


@cases.add("8: last[1] v[0]", "8: w[0]", opsets=(13,))
def divided_by_a_norm_over_rows_and_slots(d: Drawing) -> Drawn:
    """Weight norm along the kernel: output channels and slots of all groups are mixed."""
    weight = stored(d)
    return grouped(d, d.binary("Div", weight, d.reduce("ReduceL2", weight, 0, 1)))


@cases.add("8: last[1] v[1]", "8: w[0]", opsets=(13,))
def turned_round(d: Drawing) -> Drawn:
    return grouped(d, d.transpose(stored(d, 4, 8, 3, 3), 1, 0, 2, 3))


@cases.add("4: f[0] v[1] w[0]*2", "2: last[1]*4 v[0]*4 w[0]*4", "4: last[1]*2 v[0]*2", opsets=(13,))
def scaled_by_slot(d: Drawing) -> Drawn:
    """A factor per slot, shared by all output channels: slots are positions."""
    return grouped(d, d.mul(stored(d), d.floats(4, 1, 1, name="f", offset=1.0)))


@cases.add(
    "4: v[1] w[0]*2", "2: last[1]*4 v[0]*4 w[0]*4", "4: last[1]*2 v[0]*2", opsets=(13,), symbolic=[False]
)
def seen_from_outside(d: Drawing) -> list[Drawn]:
    """The standardised weight is read by something else: a sum over slots that leaves the graph."""
    weight = d.standardise(stored(d), 1, 2, 3)
    y = grouped(d, weight)
    return [
        y,
        d.add(
            d.reduce("ReduceMean", d.unary("Abs", weight), 0, 1, 2, 3), d.reduce("ReduceMean", y, 0, 1, 2, 3)
        ),
    ]


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)


def test_each_group_keeps_slots_of_its_own() -> None:
    model = cases.named("standardised").model()
    found = groups(model)
    dead = found.none_dead()
    into = next(group for group in found if group.members[0].tensor == "w")
    dead[into.unit_ids[[0, 6]]] = True  # slot 0 of the first group, slot 2 of the second

    cut = shrink(found.analysis, found.dead_labels(dead))

    weight = np.asarray(model.weights["v"])
    np.testing.assert_array_equal(cut.model.weights["v"][:4], weight[:4, [1, 2, 3]])
    np.testing.assert_array_equal(cut.model.weights["v"][4:], weight[4:, [0, 1, 3]])


def test_slots_are_taken_where_they_lie() -> None:
    """Two output channels in two groups; two slots, twice repeated as a whole and three times in themselves."""
    rows = np.arange(24).reshape(2, 12)
    where = Grouped(rigid(4), rigid(2), groups=2, axis=0, along=1, lead=2)

    got = taken(rows.T, where, np.array([[0], [1]]))

    np.testing.assert_array_equal(got.T, [[0, 1, 2, 6, 7, 8], [15, 16, 17, 21, 22, 23]])


# ------------------------------------------------------------------------------------------------ mutations


def take_the_slots_of_the_first_group(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(weight: Array, where: Grouped, kept: Ints) -> Array:
        return taken(weight, where, np.repeat(kept[:1], len(kept), axis=0))

    monkeypatch.setattr(cut_weights, "taken", first)


def forget_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reference take statistics over all slots."""
    monkeypatch.setattr(reference_ragged, "_mask", lambda build, *rest: build.const(np.array(True)))


def forget_who_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let slots differ from row to row for readers that see positions."""
    monkeypatch.setattr(Making, "_is_ours", lambda self, tensor, use: True)


FAULTS = [
    (take_the_slots_of_the_first_group, "standardised"),
    (forget_the_mask, "standardised"),
    (forget_who_reads, "seen-from-outside"),
]


@pytest.mark.parametrize(("fault", "name"), FAULTS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_fault_shows(
    fault: Callable[[pytest.MonkeyPatch], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    demand_a_fault(cases.named(name))
