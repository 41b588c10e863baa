"""Weights filed in float8; activations as they are, or in float8 too."""

from argparse import Namespace, _ArgumentGroup
from typing import ClassVar

from graphrewrite.cli.quantizing import methods
from graphrewrite.pipeline import Pipeline


@methods.register("float8")
class Float8:
    """Tidies and runs `WeightOnly` with float8 codes, a scale for each output, or `Float8Qdq`."""

    summary: ClassVar[str] = "weights, and what they multiply where asked for, in float8"
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

        group.add_argument(
            "--multiplied",
            action="store_true",
            help="float8 for what layers read too, ranges found on --data, in the form that accelerators take up; "
            "onnxruntime's CPU computes in floats between the roundings",
        )

    def pipeline(self, options: Namespace) -> Pipeline:
        """Tidy, round."""
        from graphrewrite.passes.opset import RaiseOpset
        from graphrewrite.passes.tidy import Tidy
        from graphrewrite.passes.weights import Float8Qdq, WeightOnly

        if options.multiplied:
            both = Float8Qdq(f"float8_{options.float8}", only=tuple(options.only), skip=tuple(options.skip))
            return Pipeline((Tidy(), RaiseOpset(19), both), verify=options.verify)
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
        both = ", and activations, a scale for each tensor" if options.multiplied else ""
        return f"weights in float8 ({options.float8}), a scale for each output{both}"
