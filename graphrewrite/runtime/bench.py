"""Latency of rival models, measured in turns: A B A B ..., so that a slow moment of the machine hits all of them."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.runtime.inputs import fits, sample_inputs
from graphrewrite.runtime.session import Feeds, run_session, session

# Fewer rounds than this say nothing about a median, however dear they are.
FEWEST_ROUNDS = 5
_WARM_UP_SHARE = 0.2


@dataclass(frozen=True)
class Timing:
    """Latency of one model; times are seconds of wall clock for one run.

    Attributes:
        label: what the model was called.
        seconds: every measured run in order, warm-up left out.
        ratio: time over the time of the first model in the same round, median over the rounds; 1.0 for the first.
        load: seconds to load the model into onnxruntime, optimisations included.
        inputs: the sizes it was run with, as text.
        threads: threads within an operator, 0 for one per core.
        runtime: version and execution provider of onnxruntime.
        machine: processor architecture and number of cores.
    """

    label: str
    seconds: tuple[float, ...]
    ratio: float
    load: float
    inputs: str
    threads: int
    runtime: str
    machine: str

    @property
    def median(self) -> float:
        """Half of the runs were at least this fast."""
        return median(self.seconds)

    @property
    def p95(self) -> float:
        """95 of 100 runs were at least this fast."""
        return float(np.percentile(self.seconds, 95))

    @property
    def fastest(self) -> float:
        """The best run, the least disturbed by the machine."""
        return min(self.seconds)


def latency(
    models: Sequence[tuple[str, Model | str | os.PathLike[str]]],
    feeds: Feeds | Sequence[Feeds] | None = None,
    *,
    threads: int = 0,
    budget: float = 10.0,
    most_rounds: int = 1000,
) -> list[Timing]:
    """Measure models against each other as they would be served, and return one `Timing` each, in order.

    `feeds` are one set of inputs for all models or one for each; by default samples are made up for each model. All
    models are loaded at once and run in turns until about `budget` seconds are spent, a fifth of them on warming up,
    in at least five rounds. Where several models share several threads, waiting threads sleep instead of spinning:
    they would take the cores from the rival whose turn it is.

    Raises:
        InvalidConfig: no models, or another number of feeds than models.
        InvalidData: feeds that do not fit a model.
        InvalidModel: onnxruntime refuses a model.
    """
    given = _feeds_for(models, feeds)
    sessions, loads = [], []
    for _, model in models:
        start = time.perf_counter()
        sessions.append(session(model, threads=threads, spinning=len(models) == 1))
        loads.append(time.perf_counter() - start)
    begun = time.perf_counter()
    rounds: list[list[float]] = []
    warm_up = 0
    while True:
        row = []
        for started, inputs in zip(sessions, given, strict=True):
            start = time.perf_counter()
            run_session(started, inputs)
            row.append(time.perf_counter() - start)
        spent = time.perf_counter() - begun
        if warm_up == 0 or (not rounds and spent < _WARM_UP_SHARE * budget):
            warm_up += 1
            continue
        rounds.append(row)
        if len(rounds) >= FEWEST_ROUNDS and (spent >= budget or len(rounds) >= most_rounds):
            break
    import onnxruntime as ort

    runtime = f"onnxruntime {ort.__version__} {sessions[0].get_providers()[0]}"
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    return [
        Timing(
            label,
            tuple(row[i] for row in rounds),
            median(row[i] / row[0] for row in rounds),
            loads[i],
            ", ".join(f"{name} {list(np.shape(array))}" for name, array in given[i].items()),
            threads,
            runtime,
            machine,
        )
        for i, (label, _) in enumerate(models)
    ]


def _feeds_for(
    models: Sequence[tuple[str, Model | str | os.PathLike[str]]], feeds: Feeds | Sequence[Feeds] | None
) -> list[Feeds]:
    if not models:
        raise InvalidConfig("there is nothing to measure; expected at least one model; name one")
    if feeds is not None and not isinstance(feeds, Mapping) and len(feeds) != len(models):
        raise InvalidConfig(
            f"{len(feeds)} sets of inputs for {len(models)} models; expected one each, or a single one for all"
        )
    chosen: list[Feeds] = []
    for index, (label, model) in enumerate(models):
        loaded = model if isinstance(model, Model) else Model.load(model)
        if feeds is None:
            chosen.append(sample_inputs(loaded))
            continue
        one = feeds if isinstance(feeds, Mapping) else feeds[index]
        fits(loaded, one, f"the data for {label}")
        chosen.append(one)
    return chosen
