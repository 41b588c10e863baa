"""What every verb that writes a model does: check paths, load, run a pipeline, save, and tell what happened."""

import os
import platform
import shlex
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

import graphrewrite
from graphrewrite.cli.describe import FileFacts, as_json, describe_file
from graphrewrite.cli.files import check_data_output, check_outputs, sha256
from graphrewrite.cli.left import LeftFacts
from graphrewrite.cli.loading import load
from graphrewrite.cli.screen import Screen
from graphrewrite.data import DataSource
from graphrewrite.ir import Model
from graphrewrite.pipeline import Context, Note, Pipeline, PipelineResult, Report, StepReport, Verified
from graphrewrite.pipeline.base import Json
from graphrewrite.report import text

UNCHANGED = 3

_HOW = {
    "unchanged": "nothing was changed, so there is nothing to check",
    "same": "outputs equal the input model's",
    "reference": "outputs equal those of a slow reference",
    "bounded": "measured on the data: within the limit it claims",
    "runs": "it loads and runs, and its outputs are finite",
    "structure": "the graph was checked; the model was not run",
    "steps": "every step of it was checked",
    "off": "not verified",
}


@dataclass(frozen=True)
class VerifiedFacts:
    """How the result was checked: `how` in one word, `description` in a sentence.

    `error` is the largest relative error any step was found to have and `rtol` what was allowed; both None when nothing
    was compared. `movement` is how far the outputs moved from the original's on the same inputs. `inputs` are the sizes
    of the runs, `served` what became of a run with onnxruntime's optimisations on, `rounding` what was found where only
    the model's own rounding explains a difference.
    """

    how: str
    description: str
    error: float | None
    rtol: float | None
    movement: float | None
    inputs: tuple[str, ...]
    served: str
    rounding: str = ""


@dataclass(frozen=True)
class RewriteFacts:
    """What one rewriting command did; MACs are for one sample."""

    command: str
    changed: bool
    input: FileFacts
    output: FileFacts | None
    nodes_before: int
    nodes_after: int
    macs_before: int
    macs_after: int
    params_before: int
    params_after: int
    weight_bytes_before: int
    weight_bytes_after: int
    verified: VerifiedFacts
    seconds: float
    left: tuple[LeftFacts, ...]
    warnings: tuple[str, ...]
    seed: int
    threads: int
    versions: dict[str, str]


@dataclass(frozen=True)
class Job:
    """One finished command: the models before and after, the result, the samples, and the facts to print."""

    before: Model
    result: PipelineResult
    data: DataSource | None
    test: DataSource | None
    facts: RewriteFacts
    code: int


def rewrite(
    options: Namespace,
    screen: Screen,
    pipeline: Pipeline,
    reads: Sequence[str] = (),
    writes: Sequence[str] = (),
) -> Job:
    """Load the model, run the pipeline over it, and save what comes out.

    `options` has what `add_rewriting` declares, and may have `data`, `seed`, `threads` and `workdir`. `reads` and
    `writes` are further files of the command. Nothing is written when a step fails, nor when nothing changed and
    --strict was given.

    Raises:
        GraphRewriteError: bad input, an impossible request, or a step that broke its claim.
    """
    given: str | None = getattr(options, "data", None)
    inputs = [options.model, *reads, *([given] if given and os.path.exists(given) else [])]
    check_outputs([options.output, *writes], inputs)
    before = load(options.model)
    check_data_output(before, options.output)
    source = describe_file(options.model, before)
    data = _data(given, before)
    test = _data(getattr(options, "test", None), before)  # what does not fit is said before the work
    seed, threads = getattr(options, "seed", 0), getattr(options, "threads", 0)
    with screen.progress() as progress:
        context = Context(data=data, seed=seed, threads=threads, progress=progress)
        result = pipeline.run(before, context, workdir=getattr(options, "workdir", None))
    code = UNCHANGED if options.strict and not result.changed else 0
    output = _save(result.model, options.output) if code == 0 else None
    facts = _facts(options, source, output, result, seed, threads)
    for warning in facts.warnings:
        screen.warn(f"warning: {warning}")
    if not result.changed:
        written = f"{options.output} is a copy" if output else "nothing was written (--strict)"
        screen.warn(f"nothing could be changed; {written}")
    return Job(before, result, data, test, facts, code)


def flat(steps: Iterable[StepReport]) -> list[StepReport]:
    """Return steps with those of nested pipelines in place of the pipelines."""
    return [inner for step in steps for inner in (flat(step.steps) if step.steps else [step])]


def how_checked(check: Verified) -> str:
    """Return in a sentence how a step was checked."""
    return f"outputs equal those of {check.against}" if check.against else _HOW.get(check.how, check.how)


def document(job: Job) -> dict[str, Json]:
    """Return the facts as JSON, with what each step did."""
    steps = job.result.report.to_json()["steps"]
    return {**as_json(job.facts), "steps": _without_details(cast("list[Json]", steps))}


def show_sizes(job: Job, screen: Screen, rows: Sequence[tuple[str, str, str, str]] = ()) -> None:
    """Print the table of before and after; `rows` are added at its end."""
    facts = job.facts
    output = facts.output.path if facts.output else "nothing written"
    screen.heading(f"{facts.input.path} -> {output}")
    table = [
        _row("MACs", facts.macs_before, facts.macs_after, text.count),
        _row("parameters", facts.params_before, facts.params_after, text.count),
        _row("nodes", facts.nodes_before, facts.nodes_after, str),
    ]
    if facts.output:
        table.append(_row("file", facts.input.bytes, facts.output.bytes, text.size))
    screen.table(("", "before", "after", "change"), [*table, *rows], right=("before", "after", "change"))


def _row(what: str, before: int, after: int, shown: Callable[[int], str]) -> tuple[str, str, str, str]:
    return what, shown(before), shown(after), text.change(before, after)


def show_check(job: Job, screen: Screen, more: Sequence[tuple[str, str]] = ()) -> None:
    """Print how the result was verified and how long all took."""
    found = job.facts.verified
    compared = (
        "" if found.error is None else f": error {text.error(found.error)}, allowed {text.error(found.rtol)}"
    )
    rows = [("verified", f"{found.description}{compared}")]
    if found.rounding:
        rows.append(("rounding", found.rounding))
    if found.inputs:
        rows.append(("with", "; ".join(found.inputs)))
    if found.movement is not None:
        rows.append(
            ("outputs moved", f"{text.error(found.movement)} relative to the original on these random inputs")
        )
    if found.served:
        rows.append(("served", found.served))
    screen.line()
    screen.facts([*more, *rows, ("seconds", f"{job.facts.seconds:.2f}")])


def versions() -> dict[str, str]:
    """Return the versions of everything that has a part in a result."""
    found = {"graphrewrite": graphrewrite.__version__, "python": platform.python_version()}
    for name in ("onnx", "onnxruntime", "onnx-graphsurgeon", "numpy", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def _data(given: str | None, model: Model) -> DataSource | None:
    if given is None:
        return None
    from graphrewrite.data.load import load as load_data

    return load_data(given, model)


def _save(model: Model, path: str) -> FileFacts:
    """Write the model and describe the files that were written."""
    beside = Path(f"{path}.data")
    earlier = _stamp(beside)
    model.save(path)
    data = {beside.name: beside.stat().st_size} if _stamp(beside) != earlier else {}
    return FileFacts(path, Path(path).stat().st_size + sum(data.values()), sha256(path), data)


def _stamp(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def _facts(
    options: Namespace,
    source: FileFacts,
    output: FileFacts | None,
    result: PipelineResult,
    seed: int,
    threads: int,
) -> RewriteFacts:
    report = result.report
    return RewriteFacts(
        command=shlex.join(["graphrewrite", *options.words]),
        changed=result.changed,
        input=source,
        output=output,
        nodes_before=report.before.nodes,
        nodes_after=report.after.nodes,
        macs_before=report.before.macs,
        macs_after=report.after.macs,
        params_before=report.before.params,
        params_after=report.after.params,
        weight_bytes_before=report.before.weight_bytes,
        weight_bytes_after=report.after.weight_bytes,
        verified=_verified(report),
        seconds=report.seconds,
        left=tuple(dict.fromkeys(_left(result))),
        warnings=tuple(_warning(note) for note in result.notes if note.kind == "warning"),
        seed=seed,
        threads=threads,
        versions=versions(),
    )


def _left(result: PipelineResult) -> Iterator[LeftFacts]:
    """Yield what was left; a step that finds a layer done already, by one before it, has nothing to say of it."""
    steps, done = flat(result.report.steps), set[Json]()
    for step in steps:
        for note in step.notes:
            if note.kind == "skipped" and note.subject not in done:
                yield LeftFacts(note.subject, note.text)
        rows = step.details.get("layers")
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and row.get("left") == "":
                done.add(row["name"])
    yield from (LeftFacts(note.subject, note.text) for note in result.report.notes if note.kind == "skipped")


def _verified(report: Report) -> VerifiedFacts:
    """Sum up the checks of all steps: the last one that changed what the model computes speaks for the result."""
    steps = flat(report.steps)
    changed = [step.verified for step in steps if step.changed] or [step.verified for step in steps]
    if not changed:
        return VerifiedFacts("unchanged", _HOW["unchanged"], None, None, None, (), "")
    last = next((check for check in reversed(changed) if check.how != "same"), changed[-1])
    limits = [check.rtol for check in changed if check.rtol is not None]
    return VerifiedFacts(
        how=last.how,
        description=how_checked(last),
        error=report.error,
        rtol=max(limits, default=None),
        movement=last.movement,
        inputs=tuple(last.worlds),
        served=report.served,
        rounding="; ".join(check.rounding for check in changed if check.rounding),
    )


def _warning(note: Note) -> str:
    return f"{note.subject}: {note.text}"


def _without_details(steps: Sequence[Json]) -> list[Json]:
    """Leave out what a step says in its own words: prune repeats it at the top level."""
    result: list[Json] = []
    for step in steps:
        fields = dict(cast(Mapping[str, Json], step))
        fields.pop("details", None)
        fields["steps"] = _without_details(cast("list[Json]", fields.get("steps") or []))
        result.append(fields)
    return result
