"""Residual networks with zeros in blocks beside their float and onnxruntime-int8 selves: wall clock and CPU time.

`python tests/bench/sparse_models.py` prints a table for custom_ops/MEASURED.md. ResNet-18 at 112 x 112 with random
weights: this is about speed, not about what masks do to a trained net. The masks come from `MaskBlocks`, the int8
models from onnxruntime's static quantisation (QDQ, per channel, of two random samples), lowering is "faster" with the
speeds measured on this machine, so layers that would not gain stay as they are.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from graphrewrite.ir import Array, Builder, Model
from graphrewrite.passes.sparse import LowerBlockSparse, MaskBlocks
from graphrewrite.passes.sparse.lower_q_block_sparse import LowerQBlockSparse
from graphrewrite.passes.sparse.masks.blocks import Blocks
from graphrewrite.passes.sparse.masks.one_by_n import OneByN
from graphrewrite.pipeline import Pass, Pipeline
from graphrewrite.runtime import Feeds, sample_inputs, session
from tests.bench.common import Spent, middle, timed

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


class _Samples(CalibrationDataReader):
    def __init__(self, model: Model) -> None:
        self._left = iter([sample_inputs(model, seed) for seed in range(2)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._left, None)


def quantised(model: Model, folder: Path) -> Model:
    """Return what onnxruntime's static quantisation makes of a model."""
    plain, made = folder / "float.onnx", folder / "int8.onnx"
    model.save(plain)
    quantize_static(
        plain,
        made,
        _Samples(model),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return Model.load(made)


def selves(model: Model, folder: Path) -> Mapping[str, Model]:
    """Return a model, its int8 self, and ours at two sparsities."""

    def after(start: Model, *steps: Pass) -> Model:
        return Pipeline(steps, verify="structure").run(start).model

    made = {"fp32": model, "int8": quantised(model, folder)}
    for share in (0.75, 0.9):
        made[f"1x8, {share:.0%}"] = after(model, MaskBlocks(OneByN(8), share), LowerBlockSparse())
        masked = after(model, MaskBlocks(Blocks(16, 4), share))
        made[f"int8 16x4, {share:.0%}"] = after(quantised(masked, folder), LowerQBlockSparse())
    return made


def measure(models: Mapping[str, Model], rounds: int, threads: int) -> dict[str, Spent]:
    """Return the median wall and CPU seconds of a run of each, in turns."""
    calls: dict[str, Callable[[], object]] = {}
    for name, each in models.items():
        feeds: Feeds = sample_inputs(each)
        started = session(each, threads=threads, spinning=False)
        calls[name] = lambda started=started, feeds=feeds: started.run(None, feeds)  # type: ignore[misc]
    spent: dict[str, list[Spent]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            took = timed(call)[1]
            if number:
                spent[name].append(took)
    return {name: middle(values) for name, values in spent.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        models = selves(resnet18(), Path(folder))
    print(f"| ResNet-18 at {SIDE} x {SIDE} | " + " | ".join(models) + " |")
    print("|---" * (len(models) + 1) + "|")
    lowered = [sum(node.domain == "graphrewrite" for node in each.nodes()) for each in models.values()]
    print("| layers lowered | " + " | ".join(map(str, lowered)) + " |")
    for threads in (1, 2):
        spent = measure(models, rounds, threads)
        cells = [
            f"{took.wall * 1e3:.2f} ({took.cpu * 1e3:.2f}; {spent['fp32'].cpu / took.cpu:.1f}x, "
            f"{spent['int8'].cpu / took.cpu:.1f}x)"
            for took in spent.values()
        ]
        print(
            f"| {threads} thread(s): wall ms (CPU ms; times fp32, int8) | " + " | ".join(cells) + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
