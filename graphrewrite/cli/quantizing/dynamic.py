"""Products of bytes whose ranges are found on every run; the other weights are bytes in the file only."""

from argparse import Namespace, _ArgumentGroup
from typing import ClassVar

from graphrewrite.cli.quantizing import methods
from graphrewrite.pipeline import Pass, Pipeline


@methods.register("dynamic")
class Dynamic:
    """Tidies, runs `DynamicQuantize`, and files what is left with `WeightOnly` as bytes."""

    summary: ClassVar[str] = "matrix products, activations rounded on every run; needs no data"
    takes: ClassVar[frozenset[str]] = frozenset({"bits", "per_channel", "only", "skip"})

    def configure(self, group: _ArgumentGroup) -> None:
        """Declare convolutions, cells, and what becomes of other weights."""
        group.add_argument(
            "--convolutions",
            action="store_true",
            help="convolutions too: a file for elsewhere, onnxruntime is slower with them than with floats",
        )
        group.add_argument(
            "--cells",
            action="store_true",
            help="LSTMs too, by onnxruntime's own operator: several times as fast from some 256 units on",
        )
        group.add_argument(
            "--keep-floats",
            action="store_true",
            help="leave weights of other layers as they are; otherwise they are filed as bytes, and floats once loaded",
        )

    def pipeline(self, options: Namespace) -> Pipeline:
        """Tidy, round products, file the rest."""
        from graphrewrite.passes.opset import RaiseOpset
        from graphrewrite.passes.tidy import Tidy
        from graphrewrite.passes.weights import DynamicQuantize, DynamicQuantizeCells, WeightOnly

        skip = tuple(options.skip)
        step = DynamicQuantize(
            options.bits or 8,
            options.per_channel,
            options.convolutions,
            only=tuple(options.only),
            skip=skip,
        )
        steps: list[Pass] = [Tidy(), RaiseOpset(11), step]
        if options.cells:
            steps.append(DynamicQuantizeCells())
        if not options.keep_floats and not options.only and not skip:
            steps.append(WeightOnly(8, 0))
        return Pipeline(tuple(steps), verify=options.verify)

    def asked(self, options: Namespace) -> str:
        """Name bits and scales."""
        scales = "one scale per output" if options.per_channel else "one scale per weight"
        return f"weights of {options.bits or 8} bits, {scales}; activations in 8, ranges found on every run"
