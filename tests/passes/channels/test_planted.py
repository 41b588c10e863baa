"""Planted truth: channels made useless on purpose are found, go first, and leave without a trace."""

from collections.abc import Callable

import numpy as np
import pytest

from graphrewrite import models
from graphrewrite.dims import groups
from graphrewrite.ir import Model
from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
from graphrewrite.passes.channels.criteria import Evidence, criteria
from tests.passes.channels.nets import (
    Wide,
    branches,
    cut,
    grouped,
    groups_told,
    kept_told,
    residual,
    samples,
    tower,
    values,
)
from tests.support.tolerances import UNCHANGED, relative

SEEDS = (0, 1, 2)
# Those that look at weights; the others see what the planted model computes, which tests of their own cover.
BY_WEIGHT = ("l1", "l2", "bn_scale", "geometric_median")
SMALL: dict[str, Callable[[], Model]] = {
    "tower": tower,
    "residual": residual,
    "branches": branches,
    "grouped": grouped,
}
NAMES = [*SMALL, *models.names()]


def model_of(name: str) -> Model:
    return SMALL[name]() if name in SMALL else Model.load(models.shipped(name))


def planted(model: Model, seed: int, share: float = 0.25) -> tuple[Model, dict[str, list[int]]]:
    """Zero filters, biases and norms of a share of each group; return the model and the units per group.

    The slices that read these channels stay as they are: nothing but zeros reaches them.
    """
    rng, copy = np.random.default_rng(seed), model.clone()
    dead: dict[str, list[int]] = {}
    for group in groups(model):
        count = int(share * group.units)
        units = np.sort(rng.choice(group.units, count, replace=False))
        dead[group.name] = units.tolist()
        for member in group.members:
            if member.role != "consumer":
                array = np.array(copy.weights[member.tensor])
                np.moveaxis(array, member.axis, 0)[member.index[units].ravel()] = 0
                copy.weights[member.tensor] = array
    return copy, dead


def output(model: Model) -> Wide:
    return values(model, samples(model, 8, seed=3))[0]


@pytest.mark.parametrize("criterion", BY_WEIGHT)
@pytest.mark.parametrize("name", NAMES)
def test_planted_channels_score_lowest(name: str, criterion: str) -> None:
    for seed in SEEDS:
        model, dead = planted(model_of(name), seed)
        found, evidence = groups(model), Evidence(model)

        assert sum(map(len, dead.values())) > 0
        for group in found:
            score = criteria.make(criterion).score(group, evidence)
            alive = np.setdiff1d(np.arange(group.units), dead[group.name])
            assert score[dead[group.name]].max(initial=-np.inf) < score[alive].min()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name", [name for name in NAMES if name != "grouped"]
)  # which keeps equally many per group
def test_exactly_the_planted_channels_go_and_the_outputs_stay(name: str, seed: int) -> None:
    model, dead = planted(model_of(name), seed)

    result = cut(model, RemoveChannels(budget=Ratio(0.75), absorb=False))

    kept = kept_told(result)
    for group in groups(model):
        alive = np.setdiff1d(np.arange(group.units), dead[group.name])
        for member in group.members:
            gone = set(member.index[dead[group.name]].ravel().tolist())
            positions = kept.get(member.tensor, {}).get(str(member.axis), member.index.ravel().tolist())
            assert not gone & set(positions)
            assert set(member.index[alive].ravel().tolist()) <= set(positions)
    assert relative(output(result.model), output(model)) < UNCHANGED


@pytest.mark.parametrize("criterion", BY_WEIGHT[:2])
def test_a_useless_group_of_a_grouped_convolution_goes_as_a_whole(criterion: str) -> None:
    """One of four groups computes zero, so does what it reads; a quarter of everything else is useless too."""
    model = grouped()
    useless = {16: range(8, 12), 32: range(16, 24), 12: range(5, 8)}  # by the number of channels
    for group in groups(model):
        for member in group.members:
            if member.role != "consumer":
                array = np.array(model.weights[member.tensor])
                np.moveaxis(array, member.axis, 0)[member.index[list(useless[group.units])].ravel()] = 0
                model.weights[member.tensor] = array

    result = cut(model, RemoveChannels(criteria.make(criterion), Ratio(0.75), absorb=False))

    counts = [node.attrs["group"] for node in result.model.graph.nodes if node.attrs.get("group", 1) > 1]
    assert counts == [3, 9]  # of four, and of the twelve channels of the depthwise one
    assert relative(output(result.model), output(model)) < UNCHANGED


@pytest.mark.parametrize("name", ["residual", *models.names()])
def test_a_budget_that_the_planted_channels_cover_costs_nothing(name: str) -> None:
    """Groups compete for what goes, and what is useless in any of them goes before what is useful in another."""
    model, dead = planted(model_of(name), 5)

    result = cut(model, RemoveChannels(budget=MacsBelow(0.9), absorb=False))

    assert sum(row["units"] - row["kept"] for row in groups_told(result)) > 0
    assert relative(output(result.model), output(model)) < UNCHANGED


@pytest.mark.parametrize("name", ["residual", *models.names()])
def test_the_same_number_of_other_channels_is_missed(name: str) -> None:
    """The oracle can fail: with random scores the outputs move."""
    model, _ = planted(model_of(name), 0)

    result = cut(model, RemoveChannels(criteria.make("random"), Ratio(0.75), absorb=False))

    assert relative(output(result.model), output(model)) > 1e-3
