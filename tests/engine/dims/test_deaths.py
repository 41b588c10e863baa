"""Groups of equal counts that die altogether: who dies, what it costs, and that the cut is right."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.dims import Groups, balance, cut_weights, groups, reference, reference_ragged, shrink
from graphrewrite.dims.deaths import Table, dying, tables
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.record import Grouped
from graphrewrite.dims.shrink import Cut
from graphrewrite.dims.slots import taken
from graphrewrite.dims.structure import Floats, Structure
from graphrewrite.errors import GraphRewriteError, ShapeError
from graphrewrite.ir import Array, Model
from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn, Style
from tests.support.oracles import is_rounding, random_dead, random_deaths, removal, worlds
from tests.support.tolerances import FLOAT32
from tests.support.verdict import count_faults

Mask = npt.NDArray[np.bool_]
cases = Cases()


# ------------------------------------------------------------------------------------------------ who dies


def grid(groups: int, members: int, first: int = 0) -> npt.NDArray[np.int64]:
    return np.arange(first, first + groups * members).reshape(groups, members)


def units(*which: int, of: int = 24) -> Mask:
    mask = np.zeros(of, dtype=bool)
    mask[list(which)] = True
    return mask


def died(*balances: Table, wished: Mask) -> list[int] | None:
    result = dying(balances, wished)
    return None if result is None else np.flatnonzero(result).tolist()


def test_a_group_without_a_wish_dies() -> None:
    assert died(Table(grid(3, 4), 0), wished=units(4, 5, 6, 7, 9)) == [4, 5, 6, 7]


def test_a_group_with_a_wish_lives_as_long_as_there_are_enough() -> None:
    assert died(Table(grid(3, 4), 0), wished=units(4, 5, 6)) is None


def test_more_groups_than_members_may_stay_are_too_many() -> None:
    """All inputs and two outputs are wished for, in three groups: two can have an output."""
    into, out = Table(grid(3, 4), 0), Table(grid(3, 4, 12), 0)

    # Groups 0 and 1 keep an output each, group 2 none; it dies with all its inputs.
    assert died(into, out, wished=units(*range(13, 16), *range(17, 24))) == [
        8,
        9,
        10,
        11,
        20,
        21,
        22,
        23,
    ]


def test_a_group_dies_on_all_sides() -> None:
    into, out = Table(grid(2, 4), 3), Table(grid(2, 8, 8), 3)

    assert died(into, out, wished=units(0, 1, 2, 3, *range(8, 16))) == [0, 1, 2, 3, *range(8, 16)]


def test_what_a_death_leaves_empty_elsewhere_dies_too() -> None:
    """The members of group 0 are, in another operator, those of its first two groups."""
    coarse, fine, mate = Table(grid(2, 4), 0), Table(grid(4, 2), 1), Table(grid(4, 3, 8), 1)

    assert died(coarse, fine, mate, wished=units(0, 1, 2, 3)) == [0, 1, 2, 3, 8, 9, 10, 11, 12, 13]


def test_nobody_dies_where_something_would_have_to_live_without_members() -> None:
    """The same positions in an operator that keeps every group."""
    assert died(Table(grid(2, 4), 0), Table(grid(4, 2), -1), wished=units(0, 1, 2, 3)) is None


def test_a_group_that_holds_a_pinned_position_lives() -> None:
    table = grid(3, 4)
    table[0, 2] = -1

    assert died(Table(table, 0), wished=units(0, 1, 3, 4, 5, 6, 7)) == [4, 5, 6, 7]


def test_one_group_lives_whatever_is_wished() -> None:
    assert died(Table(grid(3, 4), 0), wished=units(*range(12))) == list(range(4, 12))


# ------------------------------------------------------------------------------------------------ what is cut


def head(d: Drawing, x: Drawn) -> Drawn:
    return d.conv(x, 3, 1, bias=False, weight=d.floats(3, x.size(1), 1, 1, name="last"))


def wide(d: Drawing, width: int) -> Drawn:
    return d.conv(d.input(2, 3, 4, 4), width, 1, bias=False, weight=d.floats(width, 3, 1, 1, name="first"))


@cases.add("16: first[0]", "32: last[1] w[0]", opsets=(11, 17))
def in_groups(d: Drawing) -> Drawn:
    y = d.conv(d.unary("Relu", wide(d, 16)), 32, group=4, bias=False, weight=d.floats(32, 4, 3, 3, name="w"))
    return head(d, d.unary("Relu", y))


@cases.add("16: first[0]", "32: last[1] w[0]", opsets=(17,))
def standardised(d: Drawing) -> Drawn:
    """The weight is made from what is stored, row by row."""
    weight = d.standardise(d.floats(32, 4, 3, 3, name="w", offset=0.3), 1, 2, 3)
    x = wide(d, 16)
    return head(d, d.op("Conv", x, weight, shape=(x.shape[0], 32, 2, 2), group=4))


@cases.add("24: first[0] gain[0] last[1] shift[0]", opsets=(21,))
def normed(d: Drawing) -> Drawn:
    x = wide(d, 24)
    vectors = d.floats(24, offset=1.0, name="gain"), d.floats(24, name="shift")
    return head(d, d.op("GroupNormalization", x, *vectors, shape=x.shape, num_groups=4))


@cases.add("16: first[0]", "32: gain[0] last[1] shift[0] w[0]", opsets=(21,))
def in_groups_before_a_norm_in_others(d: Drawing) -> Drawn:
    """Four groups of eight behind the convolution, two of sixteen in the norm: several balances on one axis."""
    y = d.conv(wide(d, 16), 32, group=4, bias=False, weight=d.floats(32, 4, 3, 3, name="w"))
    vectors = d.floats(32, offset=1.0, name="gain"), d.floats(32, name="shift")
    return head(d, d.op("GroupNormalization", y, *vectors, shape=y.shape, num_groups=2))


@cases.add("16: first[0]", "16: w[0]", "16: last[1] v[0]", opsets=(17,))
def in_groups_twice(d: Drawing) -> Drawn:
    """Four groups, then two: a group of the second reads two of the first."""
    y = d.conv(wide(d, 16), 16, 1, group=4, bias=False, weight=d.floats(16, 4, 1, 1, name="w"))
    return head(d, d.conv(y, 16, 1, group=2, bias=False, weight=d.floats(16, 8, 1, 1, name="v")))


def map_in(d: Drawing, x: Drawn, count: int) -> Drawn:
    """See the channels of a map in groups, each with all its places."""
    return d.reshape(x, 0, count, x.size(1) // count * 16)


@cases.add("24: first[0] last[1]", opsets=(11, 17))
def normed_by_instances(d: Drawing) -> Drawn:
    """The vectors have a number for every group: they lose those of the dead."""
    x = wide(d, 24)
    vectors = d.floats(4, offset=1.0, name="scale"), d.floats(4, name="shift")
    y = d.op("InstanceNormalization", map_in(d, x, 4), *vectors, shape=(x.shape[0], 4, 96))
    return head(d, d.reshape(y, 0, 24, 4, 4))


@cases.add("24: first[0] v[1]", "24: last[1] v[0]", opsets=(17,))
def normed_by_instances_with_the_same_vectors(d: Drawing) -> Drawn:
    """Two norms share their vectors, and keep other groups: each has its own copy then."""
    x, one, none = (
        wide(d, 24),
        d.const(np.ones(4, np.float32), "one"),
        d.const(np.zeros(4, np.float32), "none"),
    )

    def normed(x: Drawn) -> Drawn:
        y = d.op("InstanceNormalization", map_in(d, x, 4), one, none, shape=(x.shape[0], 4, 96))
        return d.reshape(y, 0, 24, 4, 4)

    y = d.conv(normed(x), 24, 1, bias=False, weight=d.floats(24, 24, 1, 1, name="v"))
    return head(d, normed(y))


@cases.add("24: first[0] last[1]", opsets=(11, 18))
def normed_in_primitives(d: Drawing) -> Drawn:
    x = wide(d, 24)
    return head(d, d.reshape(d.standardise(map_in(d, x, 4), 2), 0, 24, 4, 4))


@cases.add("24: first[0] last[1]", opsets=(17,))
def largest_and_mean_of_each_group(d: Drawing) -> Drawn:
    x = d.reshape(wide(d, 24), 0, 4, 6, 16)
    y = d.add(x, d.add(d.reduce("ReduceMax", x, 2, 3), d.reduce("ReduceMean", x, 2, 3)))
    return head(d, d.reshape(y, 0, 24, 4, 4))


def killed(found: Groups, rng: np.random.Generator) -> Mask:
    """Return a choice in which some group dies, drawn until there is one."""
    for _ in range(50):
        dead = found.balanced(random_dead(found, rng) | random_deaths(found, rng))
        seen = np.append(dead, False)
        if any(seen[table.units].all(axis=1).any() for table in tables(found.structure)):
            return dead
    raise AssertionError("no group ever died")


def demand_deaths(model: Model, seeds: range, spoil: Callable[[Groups], None] | None = None) -> None:
    found = groups(model)
    if spoil:
        spoil(found)
    for seed in seeds:
        dead = killed(found, np.random.default_rng(seed))
        labels = found.dead_labels(dead)
        assert not list(count_faults(model, found, dead, shrink(found.analysis, labels)))
        result = removal(model, found, dead)
        assert result.moved > 1e-3
        if result.error > FLOAT32:
            slow = reference(found.analysis, labels)[0]
            assert is_rounding(result.error, worlds(model), result.cut, slow), f"is off by {result.error:.1e}"


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)


@pytest.mark.parametrize("case", [case for case in cases if case.symbolic], ids=str)
def test_cuts_in_which_groups_die_are_right_and_foretold(case: Case) -> None:
    demand_deaths(case.model(), range(8))


def test_a_whole_group_goes_where_it_is_wished_and_nothing_else() -> None:
    found = groups(cases.named("in-groups").model())
    into, out = found
    wanted = found.none_dead()
    wanted[into.unit_ids[4:8]] = wanted[out.unit_ids[8:16]] = True

    dead = found.balanced(wanted)
    cut = shrink(found.analysis, found.dead_labels(dead))

    assert (dead == wanted).all()
    assert (
        next(
            node for node in cut.model.graph.nodes if node.op == "Conv" and node.inputs[1].name == "w"
        ).attrs["group"]
        == 3
    )
    weight = np.asarray(found.analysis.model.weights["w"])
    np.testing.assert_array_equal(cut.model.weights["w"], np.delete(weight, np.arange(8, 16), axis=0))
    # 24 outputs of 3 x 3 x 4 inputs at 4 x 4 places, 12 channels before and 3 outputs behind, for a batch of two.
    assert found.macs(dead) == 2 * 16 * (24 * 36 + 12 * 3 + 24 * 3)


def test_thinning_is_preferred_where_a_death_is_further_from_the_wish() -> None:
    """One of four is wished to stay in each group but the last, where two are: thinning moves one unit."""
    found = groups(cases.named("normed").model())
    (group,) = found
    wanted = found.none_dead()
    wanted[group.unit_ids.reshape(4, 6)[:, 2:]] = True
    wanted[group.unit_ids[-1]] = False

    dead = found.balanced(wanted)[group.unit_ids].reshape(4, 6)

    assert dead.sum(axis=1).tolist() == [4, 4, 4, 4]


def test_a_measure_decides_between_deaths_and_thinning() -> None:
    """All that is left lies in one group: it costs more than one unit in each of two."""
    found = groups(cases.named("in-groups").model())
    wanted = found.none_dead()
    for group in found:
        wanted[group.unit_ids[group.units // 4 :]] = True

    nearest = found.balanced(wanted)
    cheapest = found.balanced(wanted, measure=found.macs)

    assert (nearest == wanted).all()
    assert found.macs(cheapest) < found.macs(nearest)


def test_a_group_that_dies_on_one_side_only_is_refused() -> None:
    found = groups(cases.named("in-groups").model())
    dead = found.none_dead()
    dead[found.groups[0].unit_ids[4:8]] = True

    with pytest.raises(ShapeError, match="on one side only"):
        shrink(found.analysis, found.dead_labels(dead))


def test_groups_that_live_with_unequal_counts_are_refused() -> None:
    found = groups(cases.named("normed").model())
    dead = found.none_dead()
    dead[found.groups[0].unit_ids[[0, 1, 2, 3, 4, 5, 6]]] = True

    with pytest.raises(ShapeError, match="5 to 6 members"):
        shrink(found.analysis, found.dead_labels(dead))


# ------------------------------------------------------------------------------------------------ mutations


def keep_the_number_of_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cut, "set_groups", lambda self, node, name, balances: None)


def kill_one_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let groups die in the first balance only."""

    def first(balances: Sequence[Table], dead: Mask) -> Mask | None:
        return dying(balances[:1], dead)

    monkeypatch.setattr(balance, "dying", first)


def count_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let costs go by all groups."""
    original = Structure.alive_counts

    def counts(self: Structure, alive: Mask) -> Floats:
        result = original(self, alive)
        result[self.axes :] = 1
        return result

    monkeypatch.setattr(Structure, "alive_counts", counts)


def take_slots_of_the_wrong_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let weights keep slots as if the groups that live were the first."""

    def backwards(weight: Array, grouped: Grouped, kept: Ints) -> Array:
        return taken(weight, grouped, kept[::-1])

    monkeypatch.setattr(cut_weights, "taken", backwards)


def divide_among_all_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reference take means as if the dead had members too."""
    monkeypatch.setattr(reference_ragged, "_living", lambda kept, count: 1.0)


FAULTS = [
    (divide_among_all_groups, "normed-in-primitives"),
    (divide_among_all_groups, "normed-by-instances"),
    (divide_among_all_groups, "standardised"),
    (keep_the_number_of_groups, "in-groups"),
    (keep_the_number_of_groups, "normed"),
    (kill_one_side, "in-groups"),
    (count_the_dead, "in-groups"),
    (take_slots_of_the_wrong_group, "in-groups"),
]


@pytest.mark.parametrize(("fault", "name"), FAULTS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_fault_shows(
    fault: Callable[[pytest.MonkeyPatch], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    with pytest.raises((AssertionError, GraphRewriteError, RuntimeError)):
        demand_deaths(cases.named(name).model(), range(8))


def test_vectors_that_keep_the_numbers_of_dead_groups_show() -> None:
    def forget(found: Groups) -> None:
        for use in found.analysis.weights.values():
            use.per_group = None

    with pytest.raises((AssertionError, GraphRewriteError, RuntimeError)):
        demand_deaths(cases.named("normed-by-instances").model(), range(8), forget)


def test_nothing_dies_whose_other_side_is_pinned() -> None:
    """The results of a grouped convolution may go, what it reads is an output of the model."""

    def pinned(d: Drawing) -> list[Drawn]:
        x = wide(d, 16)
        y = d.conv(x, 32, group=4, bias=False, weight=d.floats(32, 4, 3, 3, name="w"))
        return [head(d, y), x]

    d = Drawing(Style(17, False, constant_nodes=0.0, computed_shapes=0.0, seed=5))
    found = groups(d.model(*pinned(d)))
    (group,) = found
    wanted = found.none_dead()
    wanted[group.unit_ids[8:]] = True

    dead = found.balanced(wanted)

    assert dead[group.unit_ids].reshape(4, 8).sum(axis=1).tolist() == [7, 7, 7, 7]
    shrink(found.analysis, found.dead_labels(dead))
