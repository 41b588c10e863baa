"""Whole residual nets with binary layers beside their float and onnxruntime-int8 selves: wall clock and CPU time.

`python -m tests.bench.binary_models` prints a table for custom_ops/MEASURED.md. Nets of 18 layers on 224 x 224 and on
32 x 32: plain ones, in which two layers of a block are neighbours and hand over bits, and ones with a sum around every
layer (Liu and others, 2018), where numbers stand between all. Random weights: this is about speed.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import onnx_graphsurgeon as gs
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.binary import BinarizeConv, LowerBinaryConv
from graphrewrite.pipeline import Pipeline
from graphrewrite.runtime import Feeds, sample_inputs, session
from tests.bench.common import Spent, middle, timed

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


def residual(size: int, sums_everywhere: bool) -> Model:
    """Draw a net of 18 layers; shortcuts between stages are 1x1 convolutions."""
    b = Builder(seed=0)
    x: gs.Tensor = b.input([1, 3, size, size], "image")
    if size > 64:
        x = b.relu(b.batchnorm(b.conv(x, 64, 3, 7, stride=2, bias=False), 64))
        x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    else:
        x = b.relu(b.batchnorm(b.conv(x, 64, 3, 3, bias=False), 64))
    channels = 64
    for out, stride in STAGES:
        for step in (stride, 1):
            x, channels = _block(b, x, channels, out, step, sums_everywhere), out
    pooled = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
    return b.model(b.linear(pooled, 1000 if size > 64 else 10, channels))


def _block(b: Builder, x: gs.Tensor, into: int, out: int, stride: int, sums_everywhere: bool) -> gs.Tensor:
    way = x
    if into != out:
        way = b.batchnorm(b.conv(x, out, into, 1, stride=stride, bias=False), out)
    one = b.batchnorm(b.conv(x, out, into, 3, stride=stride, bias=False), out)
    if sums_everywhere:
        one = b.relu(b.add(one, way))
        two = b.batchnorm(b.conv(one, out, out, 3, bias=False), out)
        return b.relu(b.add(two, one))
    two = b.batchnorm(b.conv(b.relu(one), out, out, 3, bias=False), out)
    return b.relu(b.add(two, way))


class _Samples(CalibrationDataReader):
    def __init__(self, feeds: Feeds) -> None:
        self._left: Iterator[Feeds] = iter([feeds])

    def get_next(self) -> Feeds | None:
        return next(self._left, None)


def selves(model: Model, feeds: Feeds, folder: Path) -> Mapping[str, Model]:
    """Return a model, its onnxruntime-int8 self, and its binary self in standard operators and in ours."""
    path = folder / "float.onnx"
    model.save(path)
    quantize_static(
        path, folder / "int8.onnx", _Samples(feeds), weight_type=QuantType.QInt8, per_channel=True
    )
    binary = Pipeline((BinarizeConv(),), verify="structure").run(model).model
    ours = Pipeline((LowerBinaryConv(),), verify="structure").run(binary).model
    return {"fp32": model, "int8": Model.load(folder / "int8.onnx"), "signs in fp32": binary, "binary": ours}


def measure(model: Model, threads: int, rounds: int) -> dict[str, Spent]:
    """Return the wall and CPU seconds of a run of each self, in turns."""
    feeds = sample_inputs(model)
    calls: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, each in selves(model, feeds, Path(folder)).items():
            started = session(each, threads=threads, spinning=False)
            calls[name] = lambda started=started: started.run(None, feeds)  # type: ignore[misc]
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
    names = ["fp32", "int8", "signs in fp32", "binary"]
    print("| net | threads | " + " | ".join(f"{name}: wall ms (CPU)" for name in names) + " |")
    print("|---" * (len(names) + 2) + "|")
    for size in (224, 32):
        for sums_everywhere in (False, True):
            model = residual(size, sums_everywhere)
            title = f"18 layers, {size} x {size}, {'sums around every layer' if sums_everywhere else 'plain'}"
            for threads in (1, 2):
                spent = measure(model, threads, rounds)
                cells = [f"{spent['fp32'].wall * 1e3:.2f} ({spent['fp32'].cpu * 1e3:.2f})"]
                cells += [
                    f"{took.wall * 1e3:.2f} ({took.cpu * 1e3:.2f}, {spent['fp32'].cpu / took.cpu:.1f}x)"
                    for took in (spent[name] for name in names[1:])
                ]
                print(f"| {title} | {threads} | " + " | ".join(cells) + " |", flush=True)
                print(title, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
