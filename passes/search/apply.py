"""The pass that looks for the best settings of other passes."""

import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import ClassVar

from graphrewrite.dims import groups
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.search.driver import Found, Plan, as_rows, search
from graphrewrite.passes.search.goal import Goal
from graphrewrite.passes.search.policies import Policy
from graphrewrite.passes.search.policies.evolution import Evolution
from graphrewrite.passes.search.space import Domain, Each, Space, expanded
from graphrewrite.passes.search.trial import Samples, Trial
from graphrewrite.pipeline import METADATA_KEY, Claim, Context, Free, Note, Outcome, Pass, Pipeline
from graphrewrite.pipeline.base import Json
from graphrewrite.pipeline.registry import passes
from graphrewrite.serial import to_json


@passes.register("search")
@dataclass(frozen=True)
class Search:
    """Try a pipeline with many settings, and apply the one that serves a goal best.

    Args:
        pipeline: the steps, or one pass; a candidate is checked as `verify` says (one pass for structure), and the one
            that wins in full.
        fields: path -> values it may take: `{"0.budget.fraction": Span(0.3, 0.8)}`.
        policy: which candidates to try next.
        goal: the quality to make large, and limits on costs.
        evaluations: candidates to try.
        judge: samples that candidates are judged on, as `graphrewrite.data.load` takes them; by default the context's
            data, on which the passes then rest too.
        workers: processes that try candidates at the same time.
        clock: seconds to time each candidate beside the original; 0 times none unless the goal asks for latency.

    In a folder of its own (`Context.folder`) it writes every trial down, and goes on from there. For other executors
    (a cluster's) see `graphrewrite.passes.search.search`. Each step of the winner is checked against its own claim; the
    search as a whole promises that the model runs.
    """

    pipeline: Pass = Pipeline()
    fields: Mapping[str, Domain] = field(default_factory=dict)
    policy: Policy = field(default_factory=Evolution)
    goal: Goal = field(default_factory=Goal)
    evaluations: int = 100
    judge: str = ""
    workers: int = 1
    clock: float = 0.0

    claim: ClassVar[Claim] = Free()
    asks: ClassVar[tuple[str, ...]] = ("data",)

    def __post_init__(self) -> None:
        if isinstance(self.workers, bool) or self.workers < 1:
            raise InvalidConfig(f"Search.workers is {self.workers!r}; expected a whole number of at least 1")

    def run(self, model: Model, context: Context) -> Outcome:
        """Search, and apply what was found.

        Raises:
            InvalidConfig: there are no samples to judge by, a path leads nowhere, or no candidate keeps the limits.
        """
        if not self.fields:
            told = "no field of the pipeline varies, so there is nothing to search; name some in `fields`"
            return Outcome(model, False, (Note("skipped", "the whole model", told),))
        judge: Samples | None = self.judge or context.data
        if judge is None:
            raise InvalidConfig(
                "a search judges candidates on samples, and there are none; expected data; give it with --judge, or "
                "Search(judge=...)"
            )
        plan = Plan(self.space(model, context), self.policy, self.goal, self.evaluations, self.clock)
        pool = (
            ProcessPoolExecutor(self.workers, get_context("spawn")) if self.workers > 1 else nullcontext(None)
        )
        threads = context.threads or (1 if self.workers > 1 else 0)
        with pool as executor:
            found = search(
                model,
                plan,
                judge,
                context.data,
                seed=context.seed,
                threads=threads,
                executor=executor,
                folder=context.folder,
                progress=context.progress,
            )
        if found.best is None or found.point is None:
            raise InvalidConfig(_nothing_met(found, self.goal))
        chosen = plan.space.fill(found.point)
        result = Pipeline((chosen,)).run(model, context)
        error = result.report.error
        checked = "each step checked against its claim" + (
            f", error {error:.1e}" if error is not None else ""
        )
        details: dict[str, Json] = {
            "quality": self.goal.quality,
            "original": as_rows([found.original], self.goal)[0],
            "best": as_rows([found.best], self.goal)[0],
            "front": as_rows(found.front, self.goal),
            "trials": as_rows(found.trials, self.goal),
            "pipeline": to_json(chosen, Pass),
            "checked": checked,
        }
        result.model.metadata.pop(METADATA_KEY, None)  # whoever runs the search writes down that it did
        failed = sum(bool(trial.why) for trial in found.trials)
        told = f"tried {len(found.trials)} candidates, {failed} came to nothing, {len(found.front)} are beaten by none"
        notes = [Note("done", "search", told), Note("done", "chosen", json.dumps(dict(found.best.values)))]
        notes.append(Note("done", "checked", checked))
        if not self.judge:
            learned = "candidates were judged on the samples that their passes learn from"
            notes.append(Note("warning", "search", learned))
        return Outcome(result.model, result.changed, (*notes, *result.notes), details=details)

    def space(self, model: Model, context: Context) -> Space:
        """Return the space for a model: every `Each` written out for its channel groups as the step will find them."""
        each = [_index(path) for path, domain in self.fields.items() if isinstance(domain, Each)]
        return Space(
            self.pipeline, expanded(self.fields, self._groups(model, context, min(each)) if each else [])
        )

    def _groups(self, model: Model, context: Context, index: int) -> list[str]:
        """Return the names of the channel groups that the step of an index finds."""
        if index and isinstance(self.pipeline, Pipeline):
            model = Pipeline(self.pipeline.steps[:index], verify="off").run(model, context).model
        return [group.name for group in groups(inlined(model))]


def _index(path: str) -> int:
    """Return which step a path leads into."""
    token = path.partition(".")[0]
    return int(token) if token.isdigit() else 0


def _nothing_met(found: Found, goal: Goal) -> str:
    limits = ", ".join(f"{cost} below {share:g}" for cost, share in goal.below.items())
    reasons = sorted({trial.why for trial in found.trials if trial.why})
    why = f" ({reasons[0]})" if reasons else ""
    nearest = _nearest(found.trials, goal)
    return (
        f"none of {len(found.trials)} candidates keeps the limits ({limits or 'none'}){why}{nearest}; expected "
        "one that does; widen the space, try more, or ask for less"
    )


def _nearest(trials: tuple[Trial, ...], goal: Goal) -> str:
    measured = [trial for trial in trials if trial.found]
    if not measured or not goal.below:
        return ""
    best = min(
        measured, key=lambda trial: max(trial.found[cost] - share for cost, share in goal.below.items())
    )
    return "; the nearest has " + ", ".join(f"{cost} {best.found[cost]:.3f}" for cost in goal.below)
