"""Weights filed in float8, activations as they are."""

from argparse import Namespace, _ArgumentGroup
from typing import ClassVar

from graphrewrite.cli.quantizing import methods
from graphrewrite.pipeline import Pipeline


@methods.register("float8")
class Float8:
    """Tidies and runs `WeightOnly` with float8 codes, a scale for each output."""

    summary: ClassVar[str] = "weights only, in float8"
    takes: ClassVar[frozenset[str]] = frozenset({"only", "skip"})

    def configure(self, group: _ArgumentGroup) -> None:
        """Declare the type and the form."""
        group.add_argument(
            "--float8",
            choices=("e4m3fn", "e5m2"),
            default="e4m3fn",
            help="bits of exponent and of fraction (default e4m3fn)",
        )
        group.add_argument(
            "--dequantizers",
            action="store_true",
            help="DequantizeLinear before products, for runtimes with float8 kernels; onnxruntime's CPU has none and "
            "does it on every run",
        )

    def pipeline(self, options: Namespace) -> Pipeline:
        """Tidy, file the weights."""
        from graphrewrite.passes.opset import RaiseOpset
        from graphrewrite.passes.tidy import Tidy
        from graphrewrite.passes.weights import WeightOnly

        step = WeightOnly(
            8,
            0,
            "dequantize" if options.dequantizers else "expand",
            f"float8_{options.float8}",
            only=tuple(options.only),
            skip=tuple(options.skip),
        )
        return Pipeline((Tidy(), RaiseOpset(step.oldest_opset), step), verify=options.verify)

    def asked(self, options: Namespace) -> str:
        """Name the type."""
        return f"weights in float8 ({options.float8}), a scale for each output"
