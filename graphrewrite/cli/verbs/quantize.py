"""`graphrewrite quantize`: int8 weights and 8-bit activations, so placed that onnxruntime computes in integers."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import ClassVar, cast

from graphrewrite.cli.left import show_left
from graphrewrite.cli.method import add_told, apply, show_measured, worded
from graphrewrite.cli.parser import add_patterns, add_rewriting, whole
from graphrewrite.cli.rewriting import Job, show_check
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.pipeline import Pipeline
from graphrewrite.pipeline.base import Json
from graphrewrite.report import text


@verbs.register("quantize")
class Quantize:
    """Runs static quantisation over one model, tidied first."""

    summary: ClassVar[str] = (
        "Round weights and activations to 8 bits or less, for integer kernels of onnxruntime."
    )
    examples: ClassVar[str] = """
        graphrewrite quantize model.onnx -o int8.onnx --data images.npz
        graphrewrite quantize model.onnx -o int8.onnx --data samples/ --calibrate mse --skip 'head*' -v
        graphrewrite quantize digits.onnx -o int8.onnx --data graphrewrite.models.digits:calibration \\
            --test graphrewrite.models.digits:test --report report.html
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL, the form of codes, how ranges are found, and which layers get them."""
        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        what = parser.add_argument_group("what is done")
        what.add_argument(
            "--bits",
            type=int,
            choices=range(2, 9),
            default=8,
            metavar="N",
            help="bits of a weight, 2 to 8 (default 8): 7 for processors without VNNI, whose sums may saturate; 6 or "
            "less for a smaller file, they are int8 once it is loaded",
        )
        what.add_argument(
            "--per-tensor", action="store_true", help="one scale per weight, not one per output"
        )
        what.add_argument(
            "--activations",
            choices=("uint8", "int8", "uint8_symmetric", "int8_symmetric"),
            default="uint8",
            help="codes of activations (default uint8, the fastest on x86)",
        )
        what.add_argument(
            "--keep-biases",
            action="store_true",
            help="do not make up for what rounded weights take from the mean of each output",
        )
        ranges = parser.add_argument_group("ranges of activations")
        ranges.add_argument(
            "--calibrate",
            metavar="NAME",
            default="min_max",
            help="how ranges are found: min_max (default), moving_average, percentile, entropy, mse, or one of yours",
        )
        ranges.add_argument(
            "--batch",
            type=whole(1),
            default=16,
            metavar="N",
            help="samples that run together for it (default 16)",
        )
        ranges.add_argument(
            "--cache", metavar="FILE.json", default="", help="keep ranges there, and use those kept earlier"
        )
        choice = parser.add_argument_group("choice of layers")
        add_patterns(choice, "--only", "quantise no others than layers of these names")
        add_patterns(choice, "--skip", "leave layers of these names in float")
        add_told(parser, ranges, "samples that ranges are found on; labels are not needed")

    def run(self, options: Namespace, screen: Screen) -> int:
        """Tidy, quantise, save, measure when asked, and print what became of each layer."""
        applied = apply(options, screen, _pipeline(options), worded(lambda _: _asked(options)))
        found = cast(
            "list[Mapping[str, Json]]", applied.job.result.report.steps[-1].details.get("layers", [])
        )
        show_measured(applied.job, applied.measured, screen)
        _show(applied.job, found, screen)
        return applied.finish(options, screen, {"layers": cast(Json, found)})


def _pipeline(options: Namespace) -> Pipeline:
    from graphrewrite.passes.quant import InsertQdq
    from graphrewrite.passes.quant.calibrators import calibrators
    from graphrewrite.passes.tidy import Tidy

    step = InsertQdq(
        calibrators.make(options.calibrate),
        options.activations,
        not options.per_tensor,
        options.bits,
        not options.keep_biases,
        tuple(options.only),
        tuple(options.skip),
        options.batch,
        options.cache,
    )
    return Pipeline((Tidy(), step), verify=options.verify)


def _show(job: Job, found: list[Mapping[str, Json]], screen: Screen) -> None:
    done = [
        (note.subject, note.text)
        for note in job.result.notes
        if note.kind == "done" and note.subject == "layers"
    ]
    show_check(job, screen, done)
    quantised = [row for row in found if not row["left"]]
    if screen.verbose and quantised:
        screen.line()
        columns = ("layer", "operator", "weight", "steps", "weights moved")
        rows = [
            (
                str(row["name"]),
                str(row["op"]),
                " x ".join(map(str, cast("list[Json]", row["shape"]))),
                str(row["steps"]),
                text.error(cast(float, row["relative_error"])),
            )
            for row in quantised
        ]
        screen.table(columns, rows, right=columns[2:])
    show_left(job.facts.left, screen)


def _asked(options: Namespace) -> str:
    scales = "one scale per weight" if options.per_tensor else "one scale per output"
    return f"weights of {options.bits} bits, {scales}; {options.activations} activations, ranges by {options.calibrate}"
