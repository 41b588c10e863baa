"""The pipeline: passes in order, each on its own clone, each checked against its claim before the next begins."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from graphrewrite.errors import GraphRewriteError, InvalidConfig, UnknownNameError
from graphrewrite.ir import Model
from graphrewrite.pipeline.base import Claim, Composite, Context, Free, Json, Note, Outcome, Pass
from graphrewrite.pipeline.journal import Journal
from graphrewrite.pipeline.proof import Level, Prover
from graphrewrite.pipeline.registry import passes
from graphrewrite.pipeline.report import Facts, Report, StepReport
from graphrewrite.pipeline.verify import Verified
from graphrewrite.serial import from_json, parse, to_json

# Where a rewritten model says how it was made.
METADATA_KEY = "graphrewrite.pipeline"
_LEVELS: tuple[Level, ...] = ("off", "structure", "full")


@dataclass(frozen=True)
class PipelineResult(Outcome):
    """The rewritten model and what was done; `report` has a row for each step."""

    report: Report = field(kw_only=True)


@passes.register("pipeline")
@dataclass(frozen=True)
class Pipeline:
    """Passes to run in order; itself a pass, so pipelines nest.

    `steps` may be any sequence; it is kept as a tuple. `verify` is "full" (each step is checked for structure, by
    running, and against its claim), "structure" (nothing is run) or "off". Of a pipeline inside another, the weaker
    of both levels holds.
    """

    steps: Sequence[Pass] = ()
    verify: Level = "full"

    claim: ClassVar[Claim] = Free()

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        for index, step in enumerate(self.steps):
            if isinstance(step, type) or not isinstance(step, Pass):
                raise InvalidConfig(
                    f"Pipeline.steps[{index}] is {step!r}; expected a pass with a claim and a run method; "
                    "a class must be called to make a pass"
                )
        if self.verify not in _LEVELS:
            raise InvalidConfig(
                f"Pipeline.verify is {self.verify!r}; it must be 'full', 'structure' or 'off'"
            )

    def run(
        self, model: Model, context: Context | None = None, workdir: str | Path | None = None
    ) -> PipelineResult:
        """Rewrite a model; the one given stays as it was.

        With `workdir` every finished step is kept in that folder, and a run that was interrupted continues there
        (steps of nested pipelines are not kept one by one).

        Raises:
            StepError: a step broke its promise (a `VerificationError`); see there for what it tells.
            InvalidModel: onnxruntime cannot run the model, so it cannot be verified.
            InvalidConfig: the folder holds another run, or a claim needs data that the context lacks.
        """
        context = context or Context()
        if context.original is None:
            context = replace(context, original=model)
        start = time.perf_counter()
        text = self._text()
        journal = (
            Journal(Path(workdir), text or repr(self), model, context.seed) if workdir is not None else None
        )
        prover = Prover(context)
        first = Facts.of(model)
        current = journal.model_after(model) if journal is not None else model
        reports = [entry.report for entry in journal.entries] if journal is not None else []
        before = reports[-1].after if reports else first
        result, added = self._run_steps(current, before, context, prover, self.verify, journal, len(reports))
        reports += added
        notes = list(prover.notes)
        changed = any(report.changed for report in reports)
        if changed:
            served = prover.served(result, model)
            result = result.clone()
            notes += _remember(result, text)
        report = Report(
            tuple(reports),
            first,
            reports[-1].after if reports else first,
            time.perf_counter() - start,
            tuple(notes),
            served if changed else "",
        )
        every = tuple(note for step in reports for note in step.notes)
        return PipelineResult(result, changed, (*every, *notes), report=report)

    def to_json(self) -> str:
        """Return the pipeline as JSON text.

        Raises:
            UnknownNameError: a pass, criterion or the like is not registered.
        """
        return json.dumps(to_json(self, Pass), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Pipeline":
        """Read a pipeline from JSON text; one pass, or a bare list of passes, is a pipeline too.

        Raises:
            InvalidConfig: the text is not JSON, or a field is unknown, missing or impossible.
            UnknownNameError: a name is not registered; close names are listed.
        """
        document = parse(text, "the pipeline")
        if isinstance(document, list):
            document = {passes.tag: "pipeline", "steps": document}
        found = from_json(document, Pass)
        if isinstance(found, cls):
            return found
        assert isinstance(found, Pass)
        return cls((found,))

    def _run_steps(
        self,
        model: Model,
        before: Facts,
        context: Context,
        prover: Prover,
        level: Level,
        journal: Journal | None = None,
        done: int = 0,
    ) -> tuple[Model, list[StepReport]]:
        reports: list[StepReport] = []
        steps = unrolled(self.steps)
        names = [name_of(step) for step in steps]
        for index, step in list(enumerate(steps))[done:]:
            if context.progress is not None:
                context.progress(names[index], index, len(steps))
            folder = journal.folder_of(index) if journal is not None else None
            inside = replace(context, folder=folder)
            try:
                model, report = self._run_step(step, names, index, model, before, inside, prover, level)
            except Exception as error:
                error.add_note(f"in step {index + 1} of {len(steps)}, {names[index]}")
                raise
            before = report.after
            reports.append(report)
            if journal is not None:
                journal.add(report, model)
        if context.progress is not None and steps:
            context.progress(names[-1], len(steps), len(steps))
        return model, reports

    def _run_step(
        self,
        step: Pass,
        names: Sequence[str],
        index: int,
        model: Model,
        before: Facts,
        context: Context,
        prover: Prover,
        level: Level,
    ) -> tuple[Model, StepReport]:
        start = time.perf_counter()
        if isinstance(step, Pipeline):
            # Its steps are checked one by one, by the same prover.
            weaker = min(level, step.verify, key=_LEVELS.index)
            rewritten, inner = step._run_steps(model, before, replace(context, progress=None), prover, weaker)
            changed = any(report.changed for report in inner)
            errors = [report.verified.error for report in inner if report.verified.error is not None]
            return rewritten, StepReport(
                names[index],
                changed,
                time.perf_counter() - start,
                0.0,
                Verified("steps", max(errors, default=None)),
                before,
                inner[-1].after if inner else before,
                steps=tuple(inner),
            )
        outcome = step.run(model.clone(), context)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        verified = prover.check(model, outcome, step.claim, level, names[index], names[:index])
        # An unchanged model is the one that went in: nothing a pass left behind in its clone travels on.
        rewritten = outcome.model if outcome.changed else model
        after = Facts.of(rewritten) if outcome.changed else before
        return rewritten, StepReport(
            names[index],
            outcome.changed,
            seconds,
            time.perf_counter() - start,
            verified,
            before,
            after,
            outcome.notes,
            outcome.details,
        )

    def _text(self) -> str | None:
        try:
            return json.dumps(to_json(self, Pass), allow_nan=False)
        except (UnknownNameError, InvalidConfig):
            return None


def unrolled(steps: Sequence[Pass]) -> list[Pass]:
    """Return the steps with the parts of composite ones in their places."""
    return [
        part for step in steps for part in (unrolled(step.parts()) if isinstance(step, Composite) else [step])
    ]


def name_of(step: Pass) -> str:
    """Return the registered name of a pass, or the name of its class."""
    try:
        return passes.name_of(step)
    except GraphRewriteError:
        return type(step).__name__


def _remember(model: Model, text: str | None) -> list[Note]:
    """Write into the model how it was made; what an earlier run wrote there becomes the first step."""
    if text is None:
        told = "how the model was made is not stored in it: a pass of this pipeline cannot be written to JSON"
        return [Note("warning", "pipeline", told)]
    earlier = model.metadata.get(METADATA_KEY)
    if earlier:
        try:
            steps: list[Json] = [parse(earlier, METADATA_KEY), parse(text, METADATA_KEY)]
            text = json.dumps({passes.tag: "pipeline", "steps": steps, "verify": "full"})
        except InvalidConfig:
            pass  # not ours after all; what is true of this run is written all the same
    model.metadata[METADATA_KEY] = text
    return []
