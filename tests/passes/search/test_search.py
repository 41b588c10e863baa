"""A search finds what trying everything finds, whoever tries, and however often it is interrupted."""

import json
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnxruntime import InferenceSession

from graphrewrite import cost
from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.diff import changes
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.passes.channels.budgets import Widths
from graphrewrite.passes.search import Choice, Each, Found, Goal, Plan, Search, Space, Span, search
from graphrewrite.passes.search import trial as trying
from graphrewrite.passes.search.policies.evolution import Evolution
from graphrewrite.passes.search.policies.natural_gradient import NaturalGradient
from graphrewrite.passes.search.policies.particle_swarm import ParticleSwarm
from graphrewrite.passes.search.policies.random import Random
from graphrewrite.pipeline import METADATA_KEY, Context, Pass, Pipeline
from graphrewrite.runtime import run, session
from graphrewrite.serial import from_json, to_json
from tests.passes.search.nets import GROUPS, answered, everything, net, plan, widths


def found(asked: Plan, executor: Executor | None = None, folder: Path | None = None) -> Found:
    """Search the small net."""
    return search(net(), asked, answered(), seed=5, threads=1, executor=executor, folder=folder)


def by_hand(pair: Sequence[float]) -> tuple[float, float]:
    """Return accuracy and share of MACs with these widths, measured without the search."""
    model, samples = net(), answered()
    shares = {name: width for name, width in zip(GROUPS, pair, strict=True)}
    step = RemoveChannels(budget=Widths(1.0, shares), absorb=False)
    cut = Pipeline((step,), verify="off").run(model).model
    answers = run(cut, dict(samples.arrays))[cut.outputs[0].name].argmax(axis=1)
    macs = cost.of(cut).per_sample("macs") / cost.of(model).per_sample("macs")
    return float(np.mean(answers == samples.labels)), macs


def test_all_candidates_are_measured_right_and_the_best_within_the_limit_wins() -> None:
    result = found(plan(evaluations=9))
    table = {pair: by_hand(pair) for pair in everything()}
    assert len(result.trials) == 9
    for trial in result.trials:
        one, other = (float(str(value)) for value in trial.values.values())
        assert (trial.found["accuracy"], trial.found["macs"]) == pytest.approx(table[one, other])
    within = [entry for entry in table.values() if entry[1] <= 0.6]
    assert result.best is not None
    assert result.best.found["accuracy"] == max(accuracy for accuracy, _ in within) < 1
    assert result.original.found["accuracy"] == result.original.found["macs"] == 1


def test_a_pipeline_as_it_stands_is_tried_first() -> None:
    step = RemoveChannels(budget=MacsBelow(0.5), absorb=False)
    space = Space(step, {"budget.fraction": Span(0.25, 0.75)})
    result = search(net(), Plan(space, Random(), Goal(), 1), answered(), threads=1)
    assert [dict(trial.values) for trial in result.trials] == [{"budget.fraction": 0.5}]


@pytest.mark.parametrize(
    "policy", [Random(4), Evolution(2, 4, 2, 2), ParticleSwarm(4), NaturalGradient(samples=4)]
)
def test_what_is_found_does_not_depend_on_the_number_of_workers(
    policy: Random | Evolution | ParticleSwarm | NaturalGradient,
) -> None:
    alone = found(plan(policy, evaluations=6))
    with ThreadPoolExecutor(3) as executor:
        together = found(plan(policy, evaluations=6), executor)
    assert [trial.values for trial in alone.trials] == [trial.values for trial in together.trials]
    assert [trial.found for trial in alone.trials] == [trial.found for trial in together.trials]
    assert alone.best is not None and together.best is not None
    assert alone.best.values == together.best.values


def test_an_interrupted_search_goes_on_and_finds_the_same(tmp_path: Path) -> None:
    class Interruption(Exception):
        pass

    def stop(step: str, done: int, total: int) -> None:
        if done >= 3:
            raise Interruption

    asked = plan(Evolution(2, 4, 2, 2), evaluations=7)
    straight = found(asked)
    with pytest.raises(Interruption):
        search(net(), asked, answered(), seed=5, threads=1, folder=tmp_path, progress=stop)
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 1 + 3  # whose it is, the model as it was, three candidates
    with (tmp_path / "trials.jsonl").open("a") as file:
        file.write('{"values": {"0.bud')  # killed while it wrote
    again = found(asked, folder=tmp_path)
    assert [(t.values, t.found) for t in again.trials] == [(t.values, t.found) for t in straight.trials]
    kept = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert kept[:5] == lines and len(kept) == 2 + 7
    more = found(replace(asked, evaluations=9), folder=tmp_path)  # longer than it was meant to be
    assert [t.values for t in more.trials[:7]] == [t.values for t in straight.trials]


def test_the_original_is_run_and_counted_once_for_all_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Model] = []

    def watched(model: Model, threads: int = 0) -> InferenceSession:
        started.append(model)
        return session(model, threads=threads)

    monkeypatch.setattr(trying, "session", watched)
    told = found(plan(evaluations=4))
    assert len(told.trials) == 4 and [len(model.nodes()) for model in started] == [len(net().nodes())]


def test_a_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    found(plan(evaluations=1), folder=tmp_path)
    with pytest.raises(InvalidConfig, match="another search"):
        found(plan(evaluations=1, macs=0.7), folder=tmp_path)
    (tmp_path / "trials.jsonl").write_text("not a record\n")
    with pytest.raises(InvalidConfig, match="cannot be read"):
        found(plan(evaluations=1), folder=tmp_path)


def test_candidates_that_cannot_be_are_told_with_their_reason() -> None:
    step = RemoveChannels(budget=MacsBelow(0.5), absorb=False, floor=0.5)
    space = Space(step, {"budget.fraction": Choice((0.01, 0.9))})
    result = search(net(), Plan(space, Random(4), Goal(), 2), answered(), threads=1)
    failed = next(trial for trial in result.trials if not trial.found)
    assert failed.values == {"budget.fraction": 0.01}
    assert "at most" in failed.why
    assert result.best is not None and result.best.values == {"budget.fraction": 0.9}


def test_a_small_space_ends_before_the_evaluations_do() -> None:
    assert len(found(plan(evaluations=500)).trials) == 9


def test_accuracy_without_labels_is_refused_and_agreement_needs_none() -> None:
    unlabelled = ArraySource(answered().arrays)
    with pytest.raises(InvalidConfig, match="labels, one a sample"):
        search(net(), plan(evaluations=1), unlabelled, threads=1)
    agreeing = Plan(widths(), Random(), Goal("agreement"), 2)
    result = search(net(), agreeing, unlabelled, threads=1)
    assert all(0 <= trial.found["agreement"] <= 1 for trial in result.trials)


def test_nothing_that_another_beats_is_on_the_front() -> None:
    result = found(plan(evaluations=9))
    for one in result.front:
        for other in result.trials:
            assert not (
                other.found["accuracy"] >= one.found["accuracy"]
                and other.found["macs"] < one.found["macs"]
                and other.found["params"] <= one.found["params"]
                and other.found["bytes"] <= one.found["bytes"]
            )


# The pass.


def step(**changes: object) -> Search:
    """Return a search over a width for each group, as a pass."""
    fields: dict[str, object] = {
        "pipeline": Pipeline((RemoveChannels(budget=Widths(1.0), absorb=False),), verify="structure"),
        "fields": {"0.budget.shares": Each(Choice((0.25, 0.5, 1.0)))},
        "policy": Random(4),
        "goal": Goal("accuracy", {"macs": 0.6}),
        "evaluations": 9,
    }
    return Search(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_pass_applies_the_best_and_tells_how_to_get_it_again() -> None:
    context = Context(data=answered(), seed=5, threads=1)
    result = Pipeline((step(),)).run(net(), context)
    (report,) = result.report.steps
    best = report.details["best"]
    assert isinstance(best, dict) and isinstance(best["values"], dict)
    assert sorted(best["values"]) == [f"0.budget.shares.{name}" for name in GROUPS]
    assert report.after.macs <= 0.6 * report.before.macs
    again = Pipeline.from_json(json.dumps(report.details["pipeline"])).run(net(), context)
    assert [line for line in changes(again.model, result.model) if METADATA_KEY not in line] == []


def test_the_pass_is_the_same_after_json() -> None:
    made = step(policy=Evolution(3, 4, 2, 2), workers=2)
    assert from_json(to_json(made, Pass), Pass) == made


def test_limits_that_nothing_keeps_are_an_error_with_the_nearest() -> None:
    with pytest.raises(InvalidConfig, match=r"none of 9 candidates keeps the limits \(macs below 0.01\)"):
        Pipeline((step(goal=Goal("accuracy", {"macs": 0.01})),)).run(
            net(), Context(data=answered(), threads=1)
        )


def test_samples_are_asked_for() -> None:
    with pytest.raises(InvalidConfig, match="samples"):
        Pipeline((step(),)).run(net())
