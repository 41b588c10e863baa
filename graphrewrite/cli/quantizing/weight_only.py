"""Weights filed in few bits, activations as they are."""

from argparse import Namespace, _ArgumentGroup
from typing import ClassVar

from graphrewrite.cli.parser import whole
from graphrewrite.cli.quantizing import methods
from graphrewrite.pipeline import Pipeline


@methods.register("weight_only")
class Weights:
    """Tidies and runs `WeightOnly` with whole codes."""

    summary: ClassVar[str] = "weights only, in a small file"
    takes: ClassVar[frozenset[str]] = frozenset({"bits", "only", "skip"})

    def configure(self, group: _ArgumentGroup) -> None:
        """Declare blocks, the form, and zeros."""
        group.add_argument(
            "--block",
            type=whole(0),
            default=32,
            metavar="N",
            help="numbers that share a scale; 0 for one for each output (default 32); --bits is 4 unless asked for",
        )
        group.add_argument(
            "--form",
            choices=("expand", "dequantize", "matmul_nbits"),
            default="expand",
            help="expand: floats again once the model is loaded (default); dequantize: DequantizeLinear before "
            "products; matmul_nbits: onnxruntime's products of few bits, the fastest",
        )
        group.add_argument(
            "--asymmetric", action="store_true", help="a zero of its own for each block, a little nearer"
        )

    def pipeline(self, options: Namespace) -> Pipeline:
        """Tidy, file the weights."""
        from graphrewrite.passes.opset import RaiseOpset
        from graphrewrite.passes.tidy import Tidy
        from graphrewrite.passes.weights import WeightOnly

        step = WeightOnly(
            options.bits or 4,
            options.block,
            options.form,
            symmetric=not options.asymmetric,
            only=tuple(options.only),
            skip=tuple(options.skip),
        )
        return Pipeline((Tidy(), RaiseOpset(step.oldest_opset), step), verify=options.verify)

    def asked(self, options: Namespace) -> str:
        """Name bits, blocks and the form."""
        shared = f"a scale for {options.block} of them" if options.block else "a scale for each output"
        return f"weights of {options.bits or 4} bits, {shared}, in the form {options.form}"
