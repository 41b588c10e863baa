"""Laws that every registered budget obeys."""

import dataclasses
import inspect
import json

import numpy as np
import pytest

from graphrewrite.dims import groups
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.channels import RemoveChannels
from graphrewrite.passes.channels.budgets import Budget, budgets
from graphrewrite.passes.channels.problem import ChannelProblem
from graphrewrite.passes.channels.selection import Limits
from graphrewrite.pipeline import Pass
from graphrewrite.serial import from_json, to_json
from tests.passes.channels.nets import NETS
from tests.support.registered import is_documented_frozen

NAMES = list(budgets)
SCOPES = ("global", "uniform")


def problem(net: str, scope: str, limits: Limits) -> ChannelProblem:
    """A problem whose clock counts MACs and whose cuts add nothing."""
    found = groups(NETS[net]())
    scores = [np.random.default_rng(group.units).random(group.units) for group in found]
    whole = found.macs()
    return ChannelProblem(
        found, scores, limits, scope, 0.0, 0.0, lambda dead: found.macs(dead) / whole, lambda dead: 0.0
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_is_a_documented_frozen_dataclass_with_a_fraction(name: str) -> None:
    factory = budgets.find(name)

    assert is_documented_frozen(factory, Budget)
    assert next(iter(inspect.signature(factory).parameters)) == "fraction"
    with pytest.raises(InvalidConfig):
        budgets.make(name, fraction=0.0)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", NAMES)
def test_a_choice_keeps_floors_and_what_is_left_alone(name: str, net: str, scope: str) -> None:
    asked = problem(net, scope, Limits(floor=0.3))
    spared = asked.groups.groups[0].name
    asked = dataclasses.replace(asked, limits=Limits(floor=0.3, untouched=frozenset({spared})))

    dead = budgets.make(name, fraction=0.95).choose(asked)

    assert dead.dtype == bool and dead.shape == asked.groups.none_dead().shape
    for group in asked.groups:
        kept = int((~dead[group.unit_ids]).sum())
        assert kept >= max(1, 0.3 * group.units)
        assert group.name != spared or kept == group.units


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", NAMES)
def test_less_asked_for_is_never_more_kept_and_all_is_all(name: str, net: str, scope: str) -> None:
    asked = problem(net, scope, Limits(floor=0))
    kept = [asked.groups.macs(budgets.make(name, fraction=f).choose(asked)) for f in (1.0, 0.8, 0.6, 0.4)]

    assert kept[0] == asked.groups.macs()
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] < 0.9 * kept[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_problem_has_the_same_answer(name: str) -> None:
    one, two = (
        budgets.make(name, fraction=0.5).choose(problem("grouped", "global", Limits())) for _ in range(2)
    )

    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", NAMES)
def test_it_survives_json_within_a_pass(name: str) -> None:
    step = RemoveChannels(budget=budgets.make(name, fraction=0.375))

    assert from_json(json.loads(json.dumps(to_json(step, Pass))), Pass) == step
