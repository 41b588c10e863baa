"""`graphrewrite binarize`: make convolutions binary, and hand binary layers to operators that multiply signs."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import ClassVar, cast

from graphrewrite.cli.left import show_left
from graphrewrite.cli.method import add_told, apply, worded
from graphrewrite.cli.parser import add_patterns, add_rewriting, whole
from graphrewrite.cli.rewriting import Job, show_check, show_sizes
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.pipeline import Pass, Pipeline
from graphrewrite.pipeline.base import Json


@verbs.register("binarize")
class Binarize:
    """Runs binarization, lowering, or both over one model."""

    summary: ClassVar[str] = (
        "Make convolutions binary, ready to be trained; lower binary layers to operators that multiply signs."
    )
    examples: ClassVar[str] = """
        graphrewrite binarize model.onnx -o binary.onnx                 standard operators, to be trained
        graphrewrite binarize trained.onnx -o fast.onnx --lower-only    what is binary already, as BinaryConv
        graphrewrite binarize model.onnx -o fast.onnx --lower --skip 'stem*' --report report.html
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL and what becomes binary."""
        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        what = parser.add_argument_group("what is done")
        one = what.add_mutually_exclusive_group()
        one.add_argument(
            "--lower", action="store_true", help="then turn binary layers into BinaryConv and BinaryMatMul"
        )
        one.add_argument(
            "--lower-only",
            action="store_true",
            help="make no layer binary, lower those that are: a trained net",
        )
        what.add_argument(
            "--zero-is-plus",
            action="store_true",
            help="when lowering, let the operator Sign give 1 at 0; without, it is lowered only where no sum is 0",
        )
        what.add_argument(
            "--always",
            action="store_true",
            help="when lowering, do not ask whether this machine is faster so (see calibrate)",
        )
        what.add_argument(
            "--tidy", action="store_true", help="tidy the graph first: fold computed weights into constants"
        )
        choice = parser.add_argument_group("choice of convolutions")
        choice.add_argument("--ends", action="store_true", help="the first and the last ones too")
        choice.add_argument(
            "--least-signs",
            type=whole(1),
            default=64,
            metavar="N",
            help="leave filters with fewer than N weights as they are (default 64)",
        )
        add_patterns(choice, "--skip", "leave convolutions and weights of these names as they are")
        add_told(parser)

    def run(self, options: Namespace, screen: Screen) -> int:
        """Binarize, save, measure when asked, and print what was done."""
        applied = apply(options, screen, _pipeline(options), worded(lambda job: _asked(options, job)))
        found = {step.name: _layers(step.details) for step in applied.job.result.report.steps}
        _show(applied.job, found, screen)
        return applied.finish(options, screen, {"binary": cast(Json, found)})


def _pipeline(options: Namespace) -> Pipeline:
    from graphrewrite.passes.binary import BinarizeConv, LowerBinaryConv
    from graphrewrite.passes.tidy import Tidy

    steps: list[Pass] = [Tidy()] if options.tidy else []
    if not options.lower_only:
        steps.append(BinarizeConv(options.ends, options.least_signs, tuple(options.skip)))
    if options.lower or options.lower_only:
        steps.append(LowerBinaryConv(options.zero_is_plus, "always" if options.always else "faster"))
    return Pipeline(tuple(steps), verify=options.verify)


def _layers(details: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    return cast("list[Mapping[str, Json]]", details.get("layers", []))


def _show(job: Job, found: Mapping[str, list[Mapping[str, Json]]], screen: Screen) -> None:
    show_sizes(job, screen)
    done = [
        (note.subject, note.text)
        for note in job.result.notes
        if note.kind == "done" and "binar" in note.text + note.subject
    ]
    show_check(job, screen, done)
    rows = [
        (
            str(row["name"]),
            str(row.get("operator", "Conv")),
            ", ".join(map(str, cast("list[Json]", row.get("folded", [])))),
        )
        for step in found.values()
        for row in step
    ]
    if screen.verbose and rows:
        screen.line()
        screen.table(("layer", "operator", "folded in"), rows)
    show_left(job.facts.left, screen)


def _asked(options: Namespace, job: Job) -> str:
    asked = "binary layers lowered" if options.lower_only else "convolutions made binary"
    if options.lower:
        asked += " and lowered"
    done = [note.text for note in job.result.notes if note.kind == "done" and note.subject == "binary layers"]
    return f"{asked}: {done[-1]}" if done else asked
