"""Rounds of pruning and training: their budgets, their steps in a pipeline, and going on in the middle."""

from dataclasses import replace
from pathlib import Path

import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir.diff import is_same
from graphrewrite.passes.channels import LatencyBelow, MacsBelow, ParamsBelow, Ratio, RemoveChannels
from graphrewrite.passes.channels.budgets import Budget, Widths, budgets
from graphrewrite.passes.channels.criteria.taylor import Taylor
from graphrewrite.passes.train import Distill, PruneLoop
from graphrewrite.pipeline import Pass, Pipeline, SameAs
from tests.passes.train.nets import context, right, trained

CUT = RemoveChannels(budget=MacsBelow(0.25))
SHORT = Distill(1, 0.01)


def of(step: Pass) -> float:
    assert isinstance(step, RemoveChannels)
    fraction = step.budget.fraction  # type: ignore[attr-defined]
    assert isinstance(fraction, float)
    return fraction


def test_geometric_rounds_take_the_same_share_of_what_is_there() -> None:
    loop = PruneLoop(2, "geometric", CUT, SHORT)

    assert loop.fractions() == pytest.approx([0.5, 0.25])
    assert [of(step) for step in loop.parts()[::2]] == pytest.approx([0.5, 0.5])
    assert loop.parts()[1::2] == (SHORT, SHORT)


def test_linear_rounds_take_the_same_share_of_the_original() -> None:
    loop = PruneLoop(3, "linear", replace(CUT, budget=Ratio(0.4)), SHORT)

    assert loop.fractions() == pytest.approx([0.8, 0.6, 0.4])
    assert [of(step) for step in loop.parts()[::2]] == pytest.approx([0.8, 0.75, 2 / 3])


@pytest.mark.parametrize("budget", [MacsBelow(0.5), ParamsBelow(0.5), Ratio(0.5), LatencyBelow(0.5, steps=3)])
def test_every_budget_can_be_divided(budget: Budget) -> None:
    (first, _, second, _) = PruneLoop(2, "geometric", RemoveChannels(budget=budget)).parts()

    assert of(first) * of(second) == pytest.approx(0.5)
    assert isinstance(first, RemoveChannels) and replace(first.budget, fraction=0.5) == budget  # type: ignore[type-var]
    assert {
        budgets.name_of(each) for each in (MacsBelow(1), ParamsBelow(1), Ratio(1), LatencyBelow(1))
    } == set(budgets) - {"widths"}


def test_widths_of_single_groups_cannot_be_divided() -> None:
    with pytest.raises(InvalidConfig, match="cannot divide Widths"):
        PruneLoop(2, "geometric", RemoveChannels(budget=Widths(0.5, {"w_1[0]": 0.5})))


@pytest.mark.parametrize("schedule", ["geometric", "linear"])
def test_it_ends_within_the_budget_with_every_round_checked(schedule: str) -> None:
    step = PruneLoop(3, schedule, replace(CUT, criterion=Taylor()), SHORT)  # type: ignore[arg-type]

    result = Pipeline([step]).run(trained(), context())

    steps = result.report.steps
    assert [each.name for each in steps] == ["remove_channels", "distill"] * 3
    assert [each.verified.how for each in steps] == ["reference", "runs"] * 3
    left = [each.after.macs / result.report.before.macs for each in steps[::2]]
    for got, wanted in zip(left, step.fractions(), strict=True):
        assert wanted - 0.06 < got <= wanted
    assert isinstance(steps[0].verified, object) and isinstance(CUT.claim, SameAs)
    assert right(result.model) > right(trained()) - 0.08


def test_rounds_recover_more_than_they_lose() -> None:
    """The same budget at once without training is far worse: the comparison that a loop is for."""
    loop = Pipeline([PruneLoop(3, "geometric", CUT, SHORT)]).run(trained(), context())
    once = Pipeline([CUT]).run(trained(), context())

    assert loop.report.after.macs <= 0.25 * loop.report.before.macs
    assert right(loop.model) > right(once.model) + 0.1


def test_run_by_itself_it_does_the_same() -> None:
    step = PruneLoop(2, "geometric", CUT, SHORT)

    inside = Pipeline([step]).run(trained(), context())
    alone = step.run(trained().clone(), context())

    assert alone.changed
    assert all(
        (alone.model.weights[name] == inside.model.weights[name]).all() for name in inside.model.weights
    )


def test_an_interrupted_loop_goes_on_in_the_middle_of_its_round(tmp_path: Path) -> None:
    pipeline = Pipeline([PruneLoop(2, "geometric", CUT, SHORT)])
    straight = pipeline.run(trained(), context())
    seen: list[str] = []

    def stop_in_the_second_round(step: str, done: int, total: int) -> None:
        seen.append(step)
        if seen.count("distill") == 2 and step == "stage 1" and done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.run(trained(), replace(context(), progress=stop_in_the_second_round), workdir=tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == [
        "step-01.onnx", "step-02.onnx", "step-03.onnx",
    ]  # fmt: skip
    seen.clear()
    again = pipeline.run(
        trained(), replace(context(), progress=lambda step, done, total: seen.append(step)), workdir=tmp_path
    )

    assert is_same(again.model, straight.model)
    assert "remove_channels" not in seen


def test_it_survives_json() -> None:
    pipeline = Pipeline([PruneLoop(4, "linear", replace(CUT, criterion=Taylor(8), multiple=4), Distill(2))])

    assert Pipeline.from_json(pipeline.to_json()) == pipeline


def test_impossible_rounds_are_refused() -> None:
    class Other:
        def choose(self, problem: object) -> object:
            return None

    with pytest.raises(InvalidConfig, match=r"PruneLoop.steps is 0; expected one round or more"):
        PruneLoop(0)
    with pytest.raises(
        InvalidConfig, match=r"PruneLoop.schedule is 'cubic'; expected 'geometric' or 'linear'"
    ):
        PruneLoop(2, "cubic")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match=r"cannot divide Other into rounds"):
        PruneLoop(2, remove=RemoveChannels(budget=Other()))  # type: ignore[arg-type]
