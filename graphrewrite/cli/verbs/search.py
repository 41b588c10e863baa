"""`graphrewrite search`: try a pipeline with many settings, and keep the one that serves a goal best."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, cast

from graphrewrite.cli.loading import read_text
from graphrewrite.cli.method import add_told, apply, layered, recorded, show_measured
from graphrewrite.cli.parser import add_rewriting, whole
from graphrewrite.cli.rewriting import Job, show_check
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.cli.working import work_folder
from graphrewrite.errors import InvalidConfig
from graphrewrite.pipeline import Pipeline
from graphrewrite.pipeline.base import Json, Pass
from graphrewrite.report import Section
from graphrewrite.serial import from_json, parse

_COSTS = ("macs", "params", "bytes", "latency")
_SHOWN, _WIDE = 12, 80  # rows on a screen, and letters of settings in one


@verbs.register("search")
class SearchVerb:
    """Runs a stored search over one model."""

    summary: ClassVar[str] = "Try a pipeline with many settings, and keep the one that serves a goal best."
    examples: ClassVar[str] = """
        graphrewrite search search.json model.onnx -o small.onnx --data calibration.npz --judge held_out.npz
        graphrewrite search search.json model.onnx -o small.onnx --judge held_out.npz --workers 4 --report page.html
        echo '{"pipeline": [{"pass": "remove_channels", "budget": {"name": "widths"}}],
               "fields": {"0.budget.shares": {"group": {"low": 0.25, "high": 1.0, "step": 0.125}}},
               "policy": "evolution", "goal": {"quality": "agreement", "below": {"macs": 0.5}}}' > search.json
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare SEARCH.json, MODEL, and who judges."""
        parser.add_argument(
            "search", metavar="SEARCH.json", help="pipeline, fields that vary, policy, goal (see the guide)"
        )
        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        what = parser.add_argument_group("what is done")
        what.add_argument(
            "--judge",
            metavar="PATH",
            help="samples that candidates are judged on, like --data, with labels for accuracy; keep others for --test",
        )
        what.add_argument("--evaluations", type=whole(1), metavar="N", help="candidates to try")
        what.add_argument(
            "--workers", type=whole(1), metavar="N", help="processes that try candidates at the same time"
        )
        what.add_argument(
            "--workdir",
            metavar="FOLDER",
            help="write every trial down there; the same command goes on from it after an interruption "
            "(default: OUT.work, removed at the end)",
        )
        add_told(parser, what, "samples that the pipeline's passes look at")

    def run(self, options: Namespace, screen: Screen) -> int:
        """Search, apply the best, save, measure when asked, and print what nothing beats."""
        step = _step(options)
        pipeline = Pipeline((step,), verify=options.verify)
        asked = recorded(lambda _: f"searched by {options.search}", _sections)
        with work_folder(options) as folder:
            try:
                applied = apply(options, screen, pipeline, asked, [options.search, options.judge])
            except KeyboardInterrupt:
                screen.warn(f"what was tried is in {folder}; the same command goes on from there")
                raise
        found = _details(applied.job)
        show_measured(applied.job, applied.measured, screen)
        _show(applied.job, found, screen)
        return applied.finish(options, screen, {"search": cast(Json, found)})


def _step(options: Namespace) -> Pass:
    from graphrewrite.passes.search import Search

    path = options.search
    document = parse(read_text(path, "search"), f"the search {path!r}")
    if not isinstance(document, dict) or not {"pipeline", "fields"} <= document.keys():
        raise InvalidConfig(
            f"{path!r} holds no search; expected an object with pipeline, fields, policy and goal; see --help"
        )
    if isinstance(document["pipeline"], list):
        document["pipeline"] = {"pass": "pipeline", "steps": document["pipeline"], "verify": "structure"}
    document.pop("pass", None)
    step = cast(Search, from_json(document, Search))
    asked = {name: getattr(options, name) for name in ("judge", "evaluations", "workers")}
    return replace(step, **{name: value for name, value in asked.items() if value is not None})


def _details(job: Job) -> Mapping[str, Json]:
    return job.result.report.steps[-1].details


def _rows(found: Mapping[str, Json], name: str) -> list[Mapping[str, Mapping[str, float]]]:
    return cast("list[Mapping[str, Mapping[str, float]]]", found[name])


def _quality(found: Mapping[str, Json]) -> str:
    return str(found["quality"])


def _show(job: Job, found: Mapping[str, Json], screen: Screen) -> None:
    told = [(note.subject, note.text) for note in job.result.report.steps[-1].notes if note.kind == "done"]
    columns, rows = _table(found)
    screen.line()
    shown = [(*row[:-1], row[-1] if len(row[-1]) <= _WIDE else f"{row[-1][: _WIDE - 3]}...") for row in rows]
    screen.table(columns, shown[:_SHOWN], right=columns[1:-1])
    if len(rows) > _SHOWN:
        screen.line(f"and {len(rows) - _SHOWN} more that no other beats; --json and --report have them all")
    show_check(job, screen, told[:3])


def _table(found: Mapping[str, Json]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return titles and rows of those that no other beats, the chosen one marked."""
    quality = _quality(found)
    best = cast("Mapping[str, Json]", found["best"])["values"]
    costs = [cost for cost in _COSTS if any(cost in row["found"] for row in _rows(found, "front"))]
    rows = [
        (
            "chosen" if row["values"] == best else "",
            f"{row['found'][quality]:.4f}",
            *(f"{row['found'][cost]:.3f}" if cost in row["found"] else "" for cost in costs),
            _short(row["values"]),
        )
        for row in _rows(found, "front")
    ]
    return ("", quality, *costs, "settings"), rows


def _short(values: Mapping[str, float]) -> str:
    """Write settings without the part of their paths that all have in common."""
    names = list(values)
    common = len(names[0].rpartition(".")[0]) + 1 if len(names) == 1 else _common(names)
    return ", ".join(f"{name[common:]}={json.dumps(value)}" for name, value in values.items())


def _common(names: Sequence[str]) -> int:
    first, last = min(names), max(names)
    alike = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    return first[:alike].rfind(".") + 1


def _sections(job: Job) -> tuple[Section, ...]:
    """Return what the page says of the search: every trial in a picture, those that nothing beats in a table."""
    from graphrewrite.report.curves import Tried, tradeoff

    found = _details(job)
    quality = _quality(found)
    front = [row["values"] for row in _rows(found, "front")]
    best = cast("Mapping[str, Json]", found["best"])["values"]
    original = cast("Mapping[str, Mapping[str, float]]", found["original"])["found"]
    trials = [row for row in _rows(found, "trials") if row["found"]]
    tried = [
        Tried(
            {cost: row["found"][cost] for cost in _COSTS if cost in row["found"]},
            row["found"][quality],
            row["values"] in front,
            row["values"] == best,
        )
        for row in trials
    ]
    columns, rows = _table(found)
    failed = len(_rows(found, "trials")) - len(trials)
    nothing = f", {failed} more came to nothing" if failed else ""
    told = (
        f"{len(trials)} candidates tried{nothing}; costs are shares of the original's. "
        f"The winner: {found['checked']}."
    )
    drawn = [cost for cost in _COSTS if cost != "params" and all(cost in row["found"] for row in trials)]
    picture = tradeoff(tried, quality, drawn, original[quality])
    return (Section("What was tried", told, picture, columns, tuple(rows), columns[1:-1]), layered(job))
