"""Planted truth on nets of known layout: heads, head dims, hidden units, experts, channels made useless by weight name.

The positions to zero come from the layout alone; the analysis has to find the same units, the criteria have to put them
first, and cutting exactly those must leave the outputs alone.
"""

import numpy as np
import pytest

from graphrewrite.dims import Groups, groups, shrink
from graphrewrite.ir import Model
from graphrewrite.passes.channels.criteria import Evidence, criteria
from tests.passes.channels.planted_nets import PLANS, Plan
from tests.support.oracles import Mask, run_all, worlds
from tests.support.tolerances import UNCHANGED, largest

SEEDS = (0, 1, 2)
Zeroed = dict[tuple[str, int], set[int]]


def planted(plan: Plan, seed: int) -> tuple[Model, Zeroed]:
    """Zero some units of every kind by the names of their weights."""
    rng, model = np.random.default_rng(seed), plan.model.clone()
    zeroed: Zeroed = {}
    for kind, places in plan.kinds.items():
        units = next(iter(places.values())).shape[0]
        parts = plan.together.get(kind, np.arange(units)[None])
        chosen = np.concatenate(
            [rng.choice(part, plan.counts[kind] // len(parts), replace=False) for part in parts]
        )
        for (name, axis), where in places.items():
            array = np.array(model.weights[name])
            np.moveaxis(array, axis, 0)[where[chosen].ravel()] = 0
            model.weights[name] = array
            zeroed.setdefault((name, axis), set()).update(where[chosen].ravel().tolist())
    return model, zeroed


def useless(found: Groups, zeroed: Zeroed) -> Mask:
    """Return the units of which every position in a planted weight is zeroed, and that have such positions."""
    dead = found.none_dead()
    for group in found:
        mine = [member for member in group.members if (member.tensor, member.axis) in zeroed]
        for unit, number in enumerate(group.unit_ids):
            dead[number] = bool(mine) and all(
                set(member.index[unit].tolist()) <= zeroed[member.tensor, member.axis] for member in mine
            )
    return dead


def covered(found: Groups, dead: Mask) -> Zeroed:
    """Return the positions of these units in every weight."""
    result: Zeroed = {}
    for group in found:
        for member in group.members:
            positions = member.index[np.flatnonzero(dead[group.unit_ids])].ravel().tolist()
            result.setdefault((member.tensor, member.axis), set()).update(positions)
    return result


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PLANS)
def test_units_are_found_where_the_layout_puts_them(name: str, seed: int) -> None:
    plan = PLANS[name](seed)
    model, zeroed = planted(plan, seed)
    found = groups(model)

    dead = useless(found, zeroed)

    there = covered(found, dead)
    assert {key: there[key] for key in zeroed} == zeroed


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn_scale"])
@pytest.mark.parametrize("name", PLANS)
def test_planted_units_go_first(name: str, criterion: str) -> None:
    for seed in SEEDS:
        model, zeroed = planted(PLANS[name](seed), seed)
        found, evidence = groups(model), Evidence(model)
        dead = useless(found, zeroed)
        for group in found:
            gone = dead[group.unit_ids]
            if gone.any():
                score = criteria.make(criterion).score(group, evidence)
                assert score[gone].max() < score[~gone].min(), group.name


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PLANS)
def test_nothing_is_missed_when_exactly_those_go(name: str, seed: int) -> None:
    model, zeroed = planted(PLANS[name](seed), seed)
    found = groups(model)
    dead = useless(found, zeroed)
    assert (found.balanced(dead) == dead).all()

    cut = shrink(found.analysis, found.dead_labels(dead)).model

    assert found.macs(dead) < found.macs()
    data = worlds(model)
    for got, want in zip(run_all(cut, data), run_all(model, data), strict=True):
        assert largest(got, want) <= UNCHANGED


@pytest.mark.parametrize("name", PLANS)
def test_one_unit_more_is_missed(name: str) -> None:
    """The oracle can fail: a unit that was not planted matters."""
    model, zeroed = planted(PLANS[name](0), 0)
    found = groups(model)
    dead = useless(found, zeroed)
    group = next(g for g in found if dead[g.unit_ids].any() and (~dead[g.unit_ids]).sum() > 1)
    more = dead.copy()
    more[group.unit_ids[~dead[group.unit_ids]][0]] = True
    more = found.balanced(more)

    cut = shrink(found.analysis, found.dead_labels(more)).model

    data = worlds(model)
    assert largest(run_all(cut, data)[0], run_all(model, data)[0]) > 1e-4
