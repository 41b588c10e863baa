"""Groups that keep different members: statistics of groups written as reshapes, and when a product is needed."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.dims import groups, reference_ragged, shrink, survivors
from graphrewrite.dims.axes import Axis, Pair
from graphrewrite.dims.explain import explain
from graphrewrite.dims.record import Members, Mix
from graphrewrite.dims.reference import Reference
from graphrewrite.dims.reshape import reshape
from graphrewrite.dims.step import Step
from graphrewrite.dims.structure import Mask
from graphrewrite.errors import ShapeError
from tests.engine.dims.cases import Case, Cases, demand, demand_a_fault
from tests.support.drawing import Drawing, Drawn

cases = Cases()


def map_of(d: Drawing, width: int, name: str = "w") -> Drawn:
    x = d.input(2, 2, 5, 5)
    return d.op("Conv", x, d.floats(width, 2, 1, 1, name=name), shape=(x.shape[0], width, 5, 5))


def head(d: Drawing, x: Drawn, name: str = "last") -> Drawn:
    return d.conv(x, 3, 1, bias=False, weight=d.floats(3, x.size(1), 1, 1, name=name))


def normalise(d: Drawing, x: Drawn, count: int) -> Drawn:
    """Standardise `count` groups by the operator of instances."""
    scale, shift = d.const(np.ones(count, np.float32), "s"), d.const(np.zeros(count, np.float32), "o")
    return d.op("InstanceNormalization", x, scale, shift, shape=x.shape)


@cases.add("8: last[1] w[0]", opsets=(11, 17, 18))
def groups_by_instances(d: Drawing) -> Drawn:
    y = normalise(d, d.reshape(map_of(d, 8), 0, 2, -1), 2)
    return head(d, d.reshape(y, 0, 8, 5, 5))


@cases.add("8: last[1] w[0]", opsets=(17,))
def groups_by_instances_with_space_apart(d: Drawing) -> Drawn:
    y = normalise(d, d.reshape(map_of(d, 8), 0, 2, 20, 5), 2)
    return head(d, d.reshape(d.unary("Relu", y), 0, 8, 5, 5))


@cases.add("12: a[0] last[1] w[0]", opsets=(17,))
def groups_of_two_numbers(d: Drawing) -> Drawn:
    """Three groups of four, and behind an affine layer two groups of six: each asks for equal counts of its own."""
    y = d.reshape(normalise(d, d.reshape(map_of(d, 12), 0, 3, 100), 3), 0, 12, 5, 5)
    y = d.mul(y, d.floats(12, 1, 1, name="a", offset=1.0, scale=0.2))
    return head(d, d.reshape(d.standardise(d.reshape(y, 0, 2, 150), 2), 0, 12, 5, 5))


@cases.add("8: last[1] w[0]", opsets=(11, 13, 18))
def groups_written_out(d: Drawing) -> Drawn:
    y = d.standardise(d.reshape(map_of(d, 8), 0, 2, 100), 2)
    return head(d, d.reshape(y, 0, 8, 5, 5))


@cases.add("8: last[1] w[0]", opsets=(17,))
def groups_written_out_over_several_axes(d: Drawing) -> Drawn:
    y = d.standardise(d.reshape(map_of(d, 8), 0, 2, 4, 25), 2, 3)
    return head(d, d.reshape(y, 0, 8, 5, 5))


@cases.add("8: last[1] w[0]", opsets=(17,))
def largest_of_each_group(d: Drawing) -> Drawn:
    x = d.reshape(map_of(d, 8), 0, 2, 4, 25)
    return head(d, d.reshape(d.add(x, d.reduce("ReduceMax", x, 2)), 0, 8, 5, 5))


@cases.add("8: last[0] w[1]", opsets=(17,))
def groups_of_channels_last(d: Drawing) -> Drawn:
    """Members are the innermost axis; behind them a transpose and back."""
    x = d.reshape(d.matmul(d.input(2, 3, 4), d.floats(4, 8, name="w")), 0, 3, 2, 4)
    y = d.transpose(d.standardise(d.transpose(x, 0, 2, 1, 3), 3), 0, 2, 1, 3)
    return d.matmul(d.reshape(y, 0, 3, 8), d.floats(8, 3, name="last"))


@cases.add("4: last[1]*2 w[0]*2", "2: last[1]*4 w[0]*4", opsets=(17,))
def groups_shuffled(d: Drawing) -> Drawn:
    """Read back with members first: position by position the groups alternate, so they keep the same members."""
    x = d.reshape(map_of(d, 8), 0, 2, 4, 25)
    y = d.transpose(d.standardise(x, 2, 3), 0, 2, 1, 3)
    return head(d, d.reshape(y, 0, 8, 5, 5))


@cases.add("4: f[0] last[1]*2 w[0]*2", "2: last[1]*4 w[0]*4", opsets=(17,))
def members_scaled(d: Drawing) -> Drawn:
    """A factor for every member of every group: members are positions."""
    x = d.standardise(d.reshape(map_of(d, 8), 0, 2, 4, 25), 2, 3)
    y = d.mul(x, d.floats(4, 1, name="f", offset=1.0))
    return head(d, d.reshape(y, 0, 8, 5, 5))


@cases.add("3: last[1]*2 w[0]*2", "2: last[1]*3 w[0]*3", opsets=(17,))
def small_groups(d: Drawing) -> Drawn:
    """With three members each, whole groups go rather than members one by one."""
    return head(d, d.reshape(d.standardise(d.reshape(map_of(d, 6), 0, 2, 75), 2), 0, 6, 5, 5))


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)


def test_groups_lose_different_members() -> None:
    model = cases.named("groups-by-instances").model()
    found = groups(model)
    dead = found.none_dead()
    (group,) = found
    dead[group.unit_ids[[0, 6]]] = True  # the first of group 0, the third of group 1

    cut = shrink(found.analysis, found.dead_labels(dead))

    np.testing.assert_array_equal(cut.kept["w"][0], [1, 2, 3, 4, 5, 7])


def test_the_lowest_of_each_group_go_and_multiples_are_kept() -> None:
    """Wanted: three of the first group, one of the second. Two of each are as near as equal counts and fours come."""
    found = groups(cases.named("groups-by-instances").model())
    (group,) = found
    order = np.zeros(len(found.structure.units))
    order[group.unit_ids] = [5, 1, 4, 2, 8, 6, 3, 7]
    wanted = found.none_dead()
    wanted[group.unit_ids[[0, 1, 2, 6]]] = True

    dead = found.balanced(wanted, order)[group.unit_ids]
    fours = found.balanced(wanted, order, step=lambda each: 4)[group.unit_ids]

    assert dead[:4].sum() == dead[4:].sum() > 0
    assert dead[6]  # wanted, and the lowest of its group
    # Wanted ones go first, the lowest of them before the others; then the lowest.
    assert np.flatnonzero(fours).tolist() == [1, 2, 5, 6]


def test_what_asks_for_equal_counts_is_told() -> None:
    told = explain(cases.named("groups-by-instances").model()).groups[0]

    assert [tie.kind for tie in told.ties] == ["balances", "statistics"]
    assert told.ties[0].text.endswith("works in 2 groups: those that stay keep equally many")
    assert told.ties[1].text.endswith("takes statistics over all units of each of its 2 groups that are left")


def test_groups_of_unequal_counts_are_refused() -> None:
    found = groups(cases.named("groups-by-instances").model())
    dead = found.none_dead()
    dead[found.groups[0].unit_ids[[0, 1, 6]]] = True

    with pytest.raises(ShapeError, match="2 to 3 members"):
        shrink(found.analysis, found.dead_labels(dead))


# ------------------------------------------------------------------------------------------------ mutations


def forget_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reference take statistics over every member."""
    monkeypatch.setattr(reference_ragged, "_mask", lambda build, *rest: build.const(np.array(True)))


def mask_the_same_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reference mask in every group what the first one loses."""
    original = reference_ragged._mask

    def mask(build: Reference, node: gs.Node, mix: Mix, members: Members, kept: Mask) -> gs.Tensor:
        first = kept.reshape(members.groups, -1)[0]
        return original(build, node, mix, members, np.tile(first, members.groups))

    monkeypatch.setattr(reference_ragged, "_mask", mask)


def forget_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let groups that alternate behind a shuffle keep what they like."""

    def reshaped(s: Step, axes: list[Axis], target: list[Pair], is_shuffle: object = None) -> list[Axis]:
        return reshape(s.labels, axes, target, s.why)

    monkeypatch.setattr(Step, "reshaped", reshaped)


def forget_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let groups keep their old length."""
    monkeypatch.setattr(survivors.Survivors, "_balanced", lambda self, digit: digit.sizes[0])


FAULTS = [
    (forget_the_mask, "groups-written-out"),
    (mask_the_same_members, "groups-written-out"),
    (forget_the_order, "groups-shuffled"),
    (forget_the_count, "groups-written-out-over-several-axes"),
]


@pytest.mark.parametrize(("fault", "name"), FAULTS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_fault_shows(
    fault: Callable[[pytest.MonkeyPatch], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    demand_a_fault(cases.named(name))
