"""Trying one candidate: run its pipeline, measure what comes out. A task is plain data, so any worker can do it."""

import hashlib
import pickle
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from graphrewrite.data import DataSource
from graphrewrite.data.load import load
from graphrewrite.errors import GraphRewriteError
from graphrewrite.ir import Model
from graphrewrite.pipeline import Context, Facts, Pipeline
from graphrewrite.pipeline.base import Json
from graphrewrite.pipeline.quality import against, batches
from graphrewrite.runtime import Feeds, latency, run_session, session

# Data, or the text that `graphrewrite.data.load` opens, which is less to send to a worker.
Samples: TypeAlias = DataSource | str


@dataclass(frozen=True)
class Trial:
    """A candidate that was tried.

    Attributes:
        values: path -> value, of the fields that vary.
        found: qualities, and costs as shares of the original's; empty when nothing came of it.
        why: why nothing came of it.
        seconds: how long it took.
    """

    values: Mapping[str, Json]
    found: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Original:
    """The model that candidates are made from, measured once for all of them.

    Attributes:
        model: its ONNX file, where workers can read it.
        answers: a file with its outputs on the samples that candidates are judged on, a batch after the other.
        macs, params, weight_bytes: what it costs.
    """

    model: str
    answers: str
    macs: int
    params: int
    weight_bytes: int

    @classmethod
    def measured(cls, model: Model, judge: Samples, folder: Path, seed: int, threads: int) -> "Original":
        """Write the model and its outputs into a folder, and count it.

        Raises:
            GraphRewriteError: it cannot be run on these samples.
        """
        path, answers = folder / "original.onnx", folder / "answers"
        model.save(path)
        running = session(model, threads=threads)
        with answers.open("wb") as file:
            for feed in batches(model, _opened(judge, model), seed):
                pickle.dump(run_session(running, feed), file, pickle.HIGHEST_PROTOCOL)
        facts = Facts.of(model)
        return cls(str(path), str(answers), facts.macs, facts.params, facts.weight_bytes)

    def on(self, feeds: Iterable[Feeds]) -> Iterator[tuple[Feeds, Feeds]]:
        """Yield each batch with the outputs on it."""
        with open(self.answers, "rb") as file:
            for feed in feeds:
                yield feed, pickle.load(file)


@dataclass(frozen=True)
class Task:
    """Everything a worker needs for one candidate.

    Attributes:
        values: what the candidate is called by.
        pipeline: as JSON text.
        original: the model that it starts from, and what is known of it.
        data: what the pipeline's passes look at.
        judge: held-out samples that the quality is measured on, with labels for accuracy.
        seed, threads: as in a `Context`.
        clock: seconds to time the model beside the original, 0 for no latency.
    """

    values: Mapping[str, Json]
    pipeline: str
    original: Original
    data: Samples | None
    judge: Samples
    seed: int = 0
    threads: int = 0
    clock: float = 0.0


def attempt(task: Task) -> Trial:
    """Carry a task out; a candidate that cannot be is a result too."""
    start = time.perf_counter()
    try:
        model = Model.load(task.original.model)
        data = None if task.data is None else _opened(task.data, model)
        context = Context(data=data, seed=task.seed, threads=task.threads)
        made = Pipeline.from_json(task.pipeline).run(model, context).model
        found = _measured(model, made, task)
    except GraphRewriteError as error:
        return Trial(task.values, why=str(error), seconds=time.perf_counter() - start)
    return Trial(task.values, found, seconds=time.perf_counter() - start)


def _measured(before: Model, after: Model, task: Task) -> dict[str, float]:
    judge, old = _opened(task.judge, before), task.original
    compared = against(old.on(batches(before, judge, task.seed)), after, judge.labels, task.threads)
    new = Facts.of(after)
    found = {
        "macs": new.macs / max(old.macs, 1),
        "params": new.params / max(old.params, 1),
        "bytes": new.weight_bytes / max(old.weight_bytes, 1),
    }
    if compared.after is not None:
        found["accuracy"] = compared.after.share
    tops = [entry.same_top for entry in compared.agreement if entry.same_top is not None]
    if tops:
        found["agreement"] = min(tops)
    if compared.agreement:
        found["signal"] = min(entry.snr for entry in compared.agreement)
    if task.clock:
        found["latency"] = relative_latency(before, after, judge, task)
    return found


def relative_latency(before: Model, after: Model, judge: DataSource, task: Task) -> float:
    """Return the time of one sample as a share of the original's, the two running in turns."""
    one = next(iter(batches(before, judge, task.seed, size=1)))
    timings = latency([("before", before), ("after", after)], one, threads=task.threads, budget=task.clock)
    return timings[1].ratio


def named(samples: Samples) -> str:
    """Return what tells samples from others in the record of a search: the name given, a file's contents."""
    if not isinstance(samples, str):
        return f"{len(samples)} samples"
    path = Path(samples)
    return f"{samples} {hashlib.sha256(path.read_bytes()).hexdigest()}" if path.is_file() else samples


def _opened(samples: Samples, model: Model) -> DataSource:
    return load(samples, model) if isinstance(samples, str) else samples
