"""`graphrewrite lowbit`: round weights of matrix products to few bits, and multiply with them as they are."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import ClassVar, cast

from graphrewrite.cli.left import show_left
from graphrewrite.cli.method import Applied, add_told, apply, layered, recorded, show_measured
from graphrewrite.cli.parser import add_patterns, add_rewriting, whole
from graphrewrite.cli.rewriting import Job, show_check
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.pipeline import Pass, Pipeline
from graphrewrite.pipeline.base import Json
from graphrewrite.report import Section, text


@verbs.register("lowbit")
class LowBit:
    """Runs the lowering to few bits over one model."""

    summary: ClassVar[str] = (
        "Round weights of matrix products to 1, 2 or 4 bits, and multiply with them as they are."
    )
    examples: ClassVar[str] = """
        graphrewrite lowbit model.onnx -o small.onnx --bits 4 --group 32
        graphrewrite lowbit trained.onnx -o fast.onnx --bits 2 --skip '*lm_head*' --report report.html
        graphrewrite lowbit speech.onnx -o fast.onnx --gates            GRU and LSTM too, written out first
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL, the form of the weights, and which layers get it."""
        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        what = parser.add_argument_group("what is done")
        what.add_argument(
            "--bits", type=int, choices=(1, 2, 4), default=2, help="bits of a weight (default 2)"
        )
        what.add_argument(
            "--group",
            type=whole(0),
            default=64,
            metavar="N",
            help="inputs that share a scale, a multiple of 16; 0 for one scale per output (default 64)",
        )
        what.add_argument(
            "--gates",
            action="store_true",
            help="write GRU and LSTM out first, so that their products are lowered too",
        )
        what.add_argument(
            "--tidy", action="store_true", help="tidy the graph first: fold computed weights into constants"
        )
        what.add_argument(
            "--lower",
            choices=("faster", "always"),
            default="faster",
            help="products that this machine is faster with (default; see calibrate), or all",
        )
        choice = parser.add_argument_group("choice of layers")
        choice.add_argument(
            "--rows",
            type=whole(1),
            default=1,
            metavar="N",
            help="rows a product is expected to have where the graph leaves that open: samples times steps (default 1)",
        )
        add_patterns(choice, "--only", "lower no others than layers of these names")
        add_patterns(choice, "--skip", "leave layers of these names")
        add_told(parser)

    def run(self, options: Namespace, screen: Screen) -> int:
        """Lower, save, measure when asked, and print what was done."""
        applied = apply(options, screen, _pipeline(options), recorded(lambda _: _asked(options), _sections))
        found = _layers(applied.job)
        _show(applied, found, screen)
        return applied.finish(options, screen, {"layers": cast(Json, found)})


def _pipeline(options: Namespace) -> Pipeline:
    from graphrewrite.passes.lowbit import LowerLowBit

    steps: list[Pass] = []
    if options.tidy:
        from graphrewrite.passes.tidy import Tidy

        steps.append(Tidy())
    if options.gates:
        from graphrewrite.passes.factor.gates import WriteOutGates

        steps.append(WriteOutGates())
    steps.append(
        LowerLowBit(
            options.bits,
            options.group,
            options.rows,
            options.lower,
            tuple(options.only),
            tuple(options.skip),
        )
    )
    return Pipeline(tuple(steps), verify=options.verify)


def _layers(job: Job) -> list[Mapping[str, Json]]:
    return cast("list[Mapping[str, Json]]", job.result.report.steps[-1].details.get("layers", []))


def _show(applied: Applied, found: list[Mapping[str, Json]], screen: Screen) -> None:
    job = applied.job
    show_measured(job, applied.measured, screen)
    show_check(job, screen, [(note.subject, note.text) for note in job.result.notes if note.kind == "done"])
    if screen.verbose and found:
        screen.line()
        columns = ("layer", "inputs x outputs", "levels", "group", "weights moved")
        rows = [
            (
                str(row["name"]),
                " x ".join(map(str, cast("list[Json]", row["shape"]))),
                str(row["levels"]),
                str(row["group"]),
                text.error(cast(float, row["relative_error"])),
            )
            for row in found
        ]
        screen.table(columns, rows, right=columns[1:])
    show_left(job.facts.left, screen)


def _sections(job: Job) -> tuple[Section, ...]:
    """Return what the page says of each layer."""
    told = {
        str(row["name"]): {
            "bits": str(row["bits"]),
            "group": str(row["group"] or "all"),
            "weights moved": text.error(cast(float, row["relative_error"])),
        }
        for row in _layers(job)
    }
    return (layered(job, told),)


def _asked(options: Namespace) -> str:
    shared = f"one scale for {options.group} inputs" if options.group else "one scale per output"
    return f"weights of {options.bits} bits, {shared}"
