"""Nets quantized while they were trained, beside the float model: bytes, latency, which kernels run.

`python -m tests.bench.learned_quantizers [--rounds 30] [--threads 1]` trains `digits_resnet` for a moment only: weights
make no difference to speed.
"""

from collections.abc import Iterator

from graphrewrite import models
from graphrewrite.bridge import Optimiser
from graphrewrite.data import ArraySource
from graphrewrite.ir import Model
from graphrewrite.models.digits import calibration
from graphrewrite.passes.quant import InsertQdq
from graphrewrite.passes.quant.quantizers import Quantizer
from graphrewrite.passes.quant.quantizers.lsq import Lsq
from graphrewrite.passes.quant.quantizers.n2uq import N2uq
from graphrewrite.passes.quant.quantizers.pams import Pams
from graphrewrite.passes.recipes.qat import QuantizeAware
from graphrewrite.passes.tidy import Tidy
from graphrewrite.passes.train import Distill
from graphrewrite.pipeline import Context, Pass, Pipeline
from tests.bench.common import say
from tests.bench.kernels_common import head, options_of, row
from tests.bench.models_common import cell, measure
from tests.passes.quant.nets import served

COLUMNS = (
    "quantizer",
    "KiB",
    "ms (CPU ms, times as fast as float)",
    "integer convolutions and products",
    "in float",
)
QUANTIZERS: tuple[Quantizer, ...] = (Lsq(8), Lsq(4), Lsq(2), Pams(4), N2uq(2))


def steps() -> Iterator[tuple[str, Pass]]:
    """Yield what is measured, by name."""
    yield "rounded, 8 bits", InsertQdq()
    for each in QUANTIZERS:
        training = Distill(1, 0.0005, optimiser=Optimiser("adam"))
        yield f"{type(each).__name__.lower()}, {each.bits} bits", QuantizeAware(each, training)


def main() -> None:
    """Print the table."""
    chosen = options_of(__doc__, rounds=30).parse_args()
    model = Model.load(models.shipped("digits_resnet"))
    context = Context(data=ArraySource(calibration(64)))
    selves = {"fp32": model}
    for name, step in steps():
        selves[name] = Pipeline((Tidy(), step), verify="structure").run(model, context).model
    took = measure(selves, chosen.rounds, chosen.threads)
    say("\n".join(head(COLUMNS)))
    for name, each in selves.items():
        size = len(each.to_proto().SerializeToString()) / 1024
        found = served(each)
        integers = sum(found[op] for op in ("QLinearConv", "QGemm", "MatMulIntegerToFloat"))
        floats = sum(
            count
            for op, count in found.items()
            if op.split("_")[0] in ("Conv", "Gemm", "MatMul", "FusedConv")
        )
        say(row([name, f"{size:.0f}", cell(took, name, chosen.threads), str(integers), str(floats)]))


if __name__ == "__main__":
    main()
