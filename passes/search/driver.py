"""The search itself: ask for a batch, try what is new, tell; until enough has been tried."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from graphrewrite.errors import GraphRewriteError, InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.passes.search.diary import Diary, name_of
from graphrewrite.passes.search.goal import COSTS, Goal, front
from graphrewrite.passes.search.policies import Policy
from graphrewrite.passes.search.space import Point, Space
from graphrewrite.passes.search.trial import Original, Samples, Task, Trial, attempt, named
from graphrewrite.pipeline import Pipeline
from graphrewrite.pipeline.base import Json, Pass
from graphrewrite.pipeline.journal import key_of
from graphrewrite.serial import to_json

_IDLE = 20  # batches in a row that held nothing new: the policy has nowhere left to go
_TIMED = 1.0  # seconds, where the goal asks for latency and nobody says how long


@dataclass(frozen=True)
class Plan:
    """What is searched, how, and what for.

    Attributes:
        space: a pipeline, and which of its fields vary.
        policy: which candidates to try next.
        goal: what makes one better than another.
        evaluations: candidates to try, the pipeline as it stands among them.
        clock: seconds to time each candidate beside the original; 0 times none unless the goal asks for latency.
    """

    space: Space
    policy: Policy
    goal: Goal = Goal()
    evaluations: int = 100
    clock: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.evaluations, bool) or self.evaluations < 1:
            raise InvalidConfig(
                f"Plan.evaluations is {self.evaluations!r}; expected a whole number of at least 1"
            )
        if self.clock < 0:
            raise InvalidConfig(f"Plan.clock is {self.clock}; expected seconds, 0 or more")

    @property
    def seconds(self) -> float:
        """How long a candidate is timed."""
        asks = "latency" in {*self.goal.below, *self.goal.price}
        return self.clock or (_TIMED if asks else 0.0)


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        original: the model as it was, measured in the same way.
        trials: all candidates in the order they were asked for.
        best: the one that serves the goal best, its limits kept; None when no candidate keeps them.
        point: where it lies in the space.
        front: those that no other beats, best quality first (Pareto: quality against each cost).
    """

    original: Trial
    trials: tuple[Trial, ...]
    best: Trial | None
    point: Point | None
    front: tuple[Trial, ...]


def search(
    model: Model,
    asked: Plan,
    judge: Samples,
    data: Samples | None = None,
    *,
    seed: int = 0,
    threads: int = 0,
    executor: Executor | None = None,
    folder: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Found:
    """Search a space of pipelines for one model.

    `judge` holds samples that candidates are judged on, which should be none that are tested on later; `data` is what
    their passes look at. Candidates of a batch are tried by `executor` (anything of `concurrent.futures`), or one after
    the other without. With `folder` every trial is written down there; the same call goes on from it. What is found
    does not depend on the number of workers, but for latencies.

    Raises:
        InvalidConfig: the quality that the goal asks for cannot be measured, or the folder holds another search.
    """
    told = json.dumps(
        [to_json(part) for part in (asked.space.fields, asked.goal)] + [_text(asked.space.pipeline)]
    )
    diary = Diary(folder, key_of(f"{told} {asked.policy!r} {asked.seconds} {named(judge)}", model, seed))
    taken: dict[str, tuple[_Candidate, Trial]] = {}
    with _on_disk(model, judge, folder, seed, threads) as measured:
        blank = Task({}, _text(Pipeline()), measured, data, judge, seed, threads, asked.seconds)
        trying = _Trying(diary, executor, progress, asked.evaluations)
        original = trying.results([blank])[0]
        _check(original, asked.goal)
        searcher = asked.policy.start(asked.space.sizes, np.random.default_rng(seed))
        origin = asked.space.origin()
        points = [origin] if origin is not None else searcher.ask()
        idle = 0
        while points and len(taken) < asked.evaluations and idle < _IDLE:
            batch = [_Candidate.at(asked.space, point) for point in points]
            fresh = {each.name: each for each in reversed(batch) if each.name not in taken}
            chosen = [each for each in batch if fresh.get(each.name) is each][
                : asked.evaluations - len(taken)
            ]
            tasks = [each.task(asked.space, blank) for each in chosen]
            for each, trial in zip(chosen, trying.results(tasks), strict=True):
                taken[each.name] = (each, trial)
            known = [each for each in batch if each.name in taken]
            scores = [_score(asked.goal, taken[each.name][1]) for each in known]
            searcher.tell([each.point for each in known], scores)
            idle = 0 if chosen else idle + 1
            points = searcher.ask()
    return _found(asked.goal, original, list(taken.values()))


@dataclass(frozen=True)
class _Candidate:
    """A point of the space and what it stands for: several points may have the same values, and so the same name."""

    point: Point
    values: Mapping[str, Json]
    name: str

    @classmethod
    def at(cls, space: Space, point: Point) -> "_Candidate":
        values = space.values(point)
        return cls(point, values, name_of(values))

    def task(self, space: Space, blank: Task) -> Task:
        return replace(blank, values=self.values, pipeline=_text(space.fill(self.point)))


class _Trying:
    """Gets results of tasks: those written down, the others tried now."""

    def __init__(
        self,
        diary: Diary,
        executor: Executor | None,
        progress: Callable[[str, int, int], None] | None,
        total: int,
    ) -> None:
        self._diary = diary
        self._executor = executor
        self._progress = progress
        self._total = total
        self._done = -1  # the original is tried too, and is no candidate

    def results(self, tasks: Sequence[Task]) -> list[Trial]:
        """Return a trial for each task, in order."""
        names = [name_of(task.values) for task in tasks]
        open_ = [task for task, name in zip(tasks, names, strict=True) if name not in self._diary.trials]
        self._tell(len(tasks) - len(open_))
        for trial in self._tried(open_):
            self._diary.add(trial)
            self._tell(1)
        return [self._diary.trials[name] for name in names]

    def _tried(self, tasks: Sequence[Task]) -> Iterator[Trial]:
        if self._executor is None:
            yield from map(attempt, tasks)
            return
        futures: list[Future[Trial]] = [self._executor.submit(attempt, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

    def _tell(self, more: int) -> None:
        self._done += more
        if self._progress is not None:
            self._progress("search", max(self._done, 0), self._total)


def _score(goal: Goal, trial: Trial) -> float:
    return goal.score(trial.found) if goal.quality in trial.found else -np.inf


_ASKS = {
    "accuracy": "labels, one a sample, and an output that scores classes",
    "agreement": "an output that scores classes",
    "signal": "outputs of numbers",
}


def _check(original: Trial, goal: Goal) -> None:
    if original.why:
        raise InvalidConfig(f"the model cannot be measured as it is: {original.why}")
    if goal.quality not in original.found:
        raise InvalidConfig(
            f"the goal asks for {goal.quality}, and these samples and outputs give "
            f"{', '.join(name for name in original.found if name not in COSTS) or 'no quality'}; expected "
            f"{_ASKS[goal.quality]}; give other samples to judge by, or ask for another quality"
        )


def _found(goal: Goal, original: Trial, taken: Sequence[tuple[_Candidate, Trial]]) -> Found:
    told = [(each, trial) for each, trial in taken if goal.quality in trial.found]
    kept = [(goal.score(trial.found), -n) for n, (_, trial) in enumerate(told) if goal.is_met(trial.found)]
    best = told[-max(kept)[1]] if kept else None
    costs = [cost for cost in COSTS if cost in original.found]
    order = front([trial.found for _, trial in told], goal.quality, costs)
    return Found(
        original,
        tuple(trial for _, trial in taken),
        best[1] if best else None,
        best[0].point if best else None,
        tuple(told[number][1] for number in order),
    )


def _text(pipeline: Pass) -> str:
    """Return a pipeline as JSON; a lone pass becomes one whose candidates are checked for structure."""
    if not isinstance(pipeline, Pipeline):
        pipeline = Pipeline((pipeline,), verify="structure")
    return json.dumps(to_json(pipeline, Pass), allow_nan=False)


@contextmanager
def _on_disk(
    model: Model, judge: Samples, folder: Path | None, seed: int, threads: int
) -> Iterator[Original]:
    """Write the model and its answers where workers can read them: what a killed search left there goes with it."""
    place = Path(tempfile.mkdtemp(prefix="model-")) if folder is None else folder / "original"
    place.mkdir(parents=True, exist_ok=True)
    try:
        try:
            original = Original.measured(model, judge, place, seed, threads)
        except GraphRewriteError as error:
            raise InvalidConfig(f"the model cannot be measured as it is: {error}") from error
        yield original
    finally:
        shutil.rmtree(place, ignore_errors=True)


def as_rows(trials: Sequence[Trial], goal: Goal) -> list[Json]:
    """Return trials as JSON: values, what was found, whether the limits hold, and why nothing came of one."""
    return [
        {
            "values": dict(trial.values),
            "found": {name: float(value) for name, value in trial.found.items()},
            "met": bool(trial.found) and goal.is_met(trial.found),
            "why": trial.why,
        }
        for trial in trials
    ]
