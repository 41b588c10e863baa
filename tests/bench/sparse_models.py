"""Residual networks with zeros in blocks beside their float and onnxruntime-int8 selves: wall clock and CPU time.

`python -m tests.bench.sparse_models` prints a table for custom_ops/MEASURED.md. ResNet-18 at 112 x 112 with random
weights: this is about speed, not about what masks do to a trained net. The masks come from `MaskBlocks`, the int8
models from onnxruntime's static quantisation (QDQ, per channel, of two random samples), lowering is "faster" with the
speeds measured on this machine, so layers that would not gain stay as they are.
"""

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.sparse import LowerBlockSparse, MaskBlocks
from graphrewrite.passes.sparse.lower_q_block_sparse import LowerQBlockSparse
from graphrewrite.passes.sparse.masks.blocks import Blocks
from graphrewrite.passes.sparse.masks.one_by_n import OneByN
from graphrewrite.pipeline import Pass, Pipeline
from tests.bench.common import command, facts, say
from tests.bench.kernels_common import head, options_of, row
from tests.bench.models_common import cell, measure, statically_int8, times

SIDE = 112


def resnet18() -> Model:
    """Draw ResNet-18, norms folded."""
    b = Builder(seed=0)
    x: gs.Tensor = b.relu(_conv(b, b.input([1, 3, SIDE, SIDE], "x"), 3, 64, 7, 2))
    x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    width = 64
    for stage in range(4):
        for block in range(2):
            out, step = 64 << stage, 2 if stage and not block else 1
            y = _conv(b, b.relu(_conv(b, x, width, out, 3, step)), out, out, 3, 1)
            x = b.relu(b.add(y, x if width == out and step == 1 else _conv(b, x, width, out, 1, step)))
            width = out
    return b.model(b.linear(b.op("Flatten", b.op("GlobalAveragePool", x)), out=1000, into=512))


def _conv(b: Builder, x: gs.Tensor, inputs: int, outputs: int, kernel: int, step: int) -> gs.Tensor:
    weight = b.rng.standard_normal((outputs, inputs, kernel, kernel), dtype=np.float32)
    weight *= np.float32((2 / (inputs * kernel * kernel)) ** 0.5)
    bias = b.constant(np.zeros(outputs, np.float32))
    return b.op("Conv", x, b.constant(weight), bias, pads=[kernel // 2] * 4, strides=[step, step])


def selves(model: Model) -> Mapping[str, Model]:
    """Return a model, its int8 self, and ours at two sparsities."""

    def after(start: Model, *steps: Pass) -> Model:
        return Pipeline(steps, verify="structure").run(start).model

    made = {"fp32": model, "int8": statically_int8(model)}
    for share in (0.75, 0.9):
        made[f"1x8, {share:.0%}"] = after(model, MaskBlocks(OneByN(8), share), LowerBlockSparse())
        masked = after(model, MaskBlocks(Blocks(16, 4), share))
        made[f"int8 16x4, {share:.0%}"] = after(statically_int8(masked), LowerQBlockSparse())
    return made


def main() -> None:
    """Print the table."""
    chosen = options_of(__doc__, rounds=15).parse_args()
    models = selves(resnet18())
    say(f"{command()}; {facts()}\n")
    say("\n".join(head([f"ResNet-18 at {SIDE} x {SIDE}", *models])))
    lowered = [sum(node.domain == "graphrewrite" for node in each.nodes()) for each in models.values()]
    say(row(["layers lowered", *map(str, lowered)]))
    spent = measure(models, chosen.rounds, chosen.threads)
    say(
        row(
            [
                f"wall ms (CPU ms), {chosen.threads} thread(s)",
                *(cell(spent, name, chosen.threads) for name in models),
            ]
        )
    )
    gains = [f"{times(spent['int8'], took, chosen.threads):.1f}x" for took in spent.values()]
    say(row(["vs int8", *gains]))


if __name__ == "__main__":
    main()
