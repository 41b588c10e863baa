"""What is measured of a rewritten model beside the rewriting itself, and the record that the report page gets."""

import os
import platform
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np

from graphrewrite.cli.rewriting import Job, flat, how_checked
from graphrewrite.cli.screen import Screen
from graphrewrite.pipeline.base import Json
from graphrewrite.pipeline.quality import Quality, batches, quality
from graphrewrite.report import Check, Latency, Layer, Left, Record, Side, text
from graphrewrite.report.measure import single, timed
from graphrewrite.report.record import Scores
from graphrewrite.runtime import Feeds, Ports, sample_inputs, take_kept


@dataclass(frozen=True)
class Measured:
    """Accuracy or agreement, and latency; None where it was not asked for. `samples` and `timing` say on what."""

    quality: Quality | None = None
    samples: str = ""
    latency: tuple[Latency, Latency] | None = None
    timing: str = ""

    def to_json(self) -> dict[str, Json]:
        """Return what was measured under `quality` and `latency`, null where nothing was."""
        timed = None
        if self.latency is not None:
            before, after = map(asdict, self.latency)
            timed = {"before": before, "after": after, "how": self.timing}
        found = None if self.quality is None else {**asdict(self.quality), "on": self.samples}
        return {"quality": cast(Json, found), "latency": cast(Json, timed)}


def measure(job: Job, options: Namespace, screen: Screen) -> Measured:
    """Measure what --test and --report ask for; nothing without them.

    Raises:
        InvalidData: the samples of --test do not fit.
    """
    if not options.test and not options.report:
        return Measured()
    before, after = job.before, job.result.model
    source = job.data if job.test is None else job.test
    feeds: Iterable[Feeds]
    if source is not None:
        one = next(iter(batches(before, source, options.seed, size=1)), None)
        feeds, labels = batches(before, source, options.seed), source.labels
        origin = options.test or f"{options.data}, which the rewriting itself looked at"
    else:
        one = sample_inputs(before, options.seed)
        feeds, labels = [one], None
        origin = f"random numbers of seed {options.seed}"
    ports = _ports(job)
    found = quality(before, after, feeds, labels, options.threads, ports)
    if options.test and found.before is None:
        screen.warn(f"note: no accuracy: {found.why_not}")
    samples = f"{text.plural(found.samples, 'sample')} of {origin}"
    if not options.report or one is None:
        return Measured(found, samples)
    first_feed = single(before, one)
    (first, second), timing = timed(
        [("before", before), ("after", after)], [first_feed, take_kept(first_feed, ports)], options.threads
    )
    return Measured(found, samples, (first, second), timing)


def _ports(job: Job) -> Ports:
    """Return what is left of inputs and outputs that became shorter."""
    told = cast("dict[str, dict[str, list[int]]]", job.result.report.steps[-1].details.get("ports", {}))
    return {
        name: {int(axis): np.asarray(kept, dtype=np.int64) for axis, kept in axes.items()}
        for name, axes in told.items()
    }


def record(job: Job, layers: tuple[Layer, ...], measured: Measured, asked: str, scores: Scores) -> Record:
    """Put together what the report page shows."""
    facts = job.facts
    assert facts.output is not None
    found = measured.quality
    right = (found.before, found.after) if found else (None, None)
    latency = measured.latency or (None, None)
    return Record(
        title=Path(facts.input.path).name,
        command=facts.command,
        before=Side(
            path=facts.input.path,
            bytes=facts.input.bytes,
            sha256=facts.input.sha256,
            nodes=facts.nodes_before,
            macs=facts.macs_before,
            params=facts.params_before,
            accuracy=right[0],
            latency=latency[0],
        ),
        after=Side(
            path=facts.output.path,
            bytes=facts.output.bytes,
            sha256=facts.output.sha256,
            nodes=facts.nodes_after,
            macs=facts.macs_after,
            params=facts.params_after,
            accuracy=right[1],
            latency=latency[1],
        ),
        asked=asked,
        checks=checks(job),
        layers=layers,
        left=tuple(Left(entry.subject, entry.reason) for entry in facts.left),
        seconds=facts.seconds,
        samples=measured.samples,
        timing=measured.timing,
        agreement=found.agreement if found else (),
        scores=scores,
        facts=surroundings(facts.seed, facts.threads, facts.versions),
        is_unchanged=not job.result.changed,
    )


def checks(job: Job) -> tuple[Check, ...]:
    """Return how each step that changed something was checked; none when nothing was verified."""
    return tuple(
        Check(step.name, how_checked(step.verified), step.verified.error, step.verified.rtol)
        for step in flat(job.result.report.steps)
        if step.changed and step.verified.how != "off"
    )


def surroundings(seed: int, threads: int, versions: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the lines at the foot of a page: what a repetition would have to have in common."""
    return (
        ("seed", str(seed)),
        ("threads", str(threads) if threads else f"all ({os.cpu_count()} cores)"),
        ("machine", f"{platform.machine()}, {platform.system()}"),
        ("versions", ", ".join(f"{name} {number}" for name, number in versions.items())),
    )
