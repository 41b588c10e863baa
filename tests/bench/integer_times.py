"""How long layers and roundings take in onnxruntime, on bytes and on floats: what `InsertQdq` weighs with `times`.

`python -m tests.bench.integer_times [--rounds 60] [--write]`. Layers of many sizes follow each other, in floats and as
`InsertQdq` writes them; a layer's time is what each of them adds. "Turn" is what a convolution in floats between two of
bytes costs besides: two conversions, and the layouts that both kinds of kernels turn maps to. CPU time of one thread,
the least of many rounds in turns. `--write` puts the points where the pass looks for them.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort

from graphrewrite.cost.speeds import Point, Speeds, Work
from graphrewrite.data import ArraySource
from graphrewrite.ir import Builder, Model
from graphrewrite.match.view import View
from graphrewrite.passes.quant import InsertQdq
from graphrewrite.pipeline import Context
from tests.bench.common import say
from tests.bench.kernels_common import call, head, options_of, row

FILE = Path(__file__).parents[2] / "passes" / "quant" / "tables" / "vnni.json"
_COUNTS = (2, 8)  # layers of the shorter and the longer chain
_LEAST = 0.002  # seconds of a round
_SHORTEST = 1e-7  # seconds: below is noise
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")
_OPS = ("Add", "Sigmoid", "LeakyRelu")

FULL = {  # kernel: channels and height
    3: "8@28 16@16 16@56 32@8 32@28 64@4 64@14 64@56 128@2 128@4 128@7 128@28 256@1 256@2 256@4 256@14 512@1 512@2 "
    "512@4 512@7",
    1: "8@16 16@16 16@56 32@8 48@4 64@14 64@56 128@2 128@7 128@28 96@1 240@2 240@1 576@1 256@14 512@7 1024@7",
}
EACH = {
    3: "16@16 32@8 32@56 64@28 96@4 96@112 128@14 144@56 240@2 512@7 576@1",
    5: "80@4 240@14 288@2 576@1 672@7",
    7: "16@16 32@4 48@2 64@14 96@28 96@56 384@7",
}
GROUPS = "64/8@4 64/8@14 128/32@28 256/8@2 256/32@14 256/16@28 512/32@7"
PRODUCTS = (
    "48@1 128@1 512@1 1024@1 128@4 16@16 64@16 256@16 32@64 96@64 384@64 192@197 384@197 16@256 64@256 768@128 "
    "96@1024 96@3136"
)
MAPS = "8@4 16@8 16@16 16@32 32@32 16@64 64@56 64@112"
NUMBERS = (64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)


class Chain(NamedTuple):
    """Layers that follow each other: `layer` draws one behind a tensor, `shape` is what they read."""

    shape: tuple[int, ...]
    layer: Callable[[Builder, gs.Tensor, int], gs.Tensor]
    skip: tuple[str, ...] = ()

    def drawn(self, count: int) -> Model:
        """Return the model of so many, in floats."""
        b = Builder(opset=17)
        y: gs.Tensor = b.input(list(self.shape), "x")
        for number in range(count):
            y = self.layer(b, y, number)
        return b.model(y)

    def selves(self, is_integer: bool) -> list[Model]:
        """Return the shorter and the longer model."""
        return [quantised(self, each) if is_integer else each for each in map(self.drawn, _COUNTS)]


def quantised(chain: Chain, model: Model) -> Model:
    """Return a model as `InsertQdq` writes it."""
    x = np.random.default_rng(0).standard_normal(chain.shape).astype(np.float32)
    around = Context(data=ArraySource({"x": x}))
    step, made = InsertQdq(correct_bias=False, skip=chain.skip), model.clone()
    planner = step.planner(View(made), whole=True)
    assert planner is not None
    return step.written(made, planner, step.measured(model, planner.wanted(), planner, around), around).model


def conv(channels: int, kernel: int, group: int = 1) -> Callable[[Builder, gs.Tensor, int], gs.Tensor]:
    """Return a convolution that keeps channels and size, with its Relu."""
    return lambda b, x, number: b.relu(
        b.conv(x, channels, channels, kernel, group, name=f"layer{number % 2}_{number}")
    )


def product(width: int, behind: str = "") -> Callable[[Builder, gs.Tensor, int], gs.Tensor]:
    """Return a product that keeps the width, and an operator behind it that reads and gives floats."""

    def layer(b: Builder, x: gs.Tensor, number: int) -> gs.Tensor:
        y = b.op("MatMul", x, b.weight(width, width))
        return b.op(behind, y) if behind else y

    return layer


def slopes(selves: list[list[Model]], shape: tuple[int, ...], rounds: int) -> list[float]:
    """Return the seconds that a layer adds, between the least times of a short and a long chain; all take turns."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    took = least([call(each.to_proto(), x) for pair in selves for each in pair], rounds)
    return [
        max(float(long - short) / (_COUNTS[1] - _COUNTS[0]), _SHORTEST)
        for short, long in zip(took[::2], took[1::2], strict=True)
    ]


def least(calls: list[Callable[[], object]], rounds: int) -> np.ndarray:
    """Return the least CPU seconds of each call, in turns."""
    best = np.full(len(calls), np.inf)
    for _ in range(rounds):
        for number, run in enumerate(calls):
            until = time.thread_time() + _LEAST
            while time.thread_time() < until:
                start = time.thread_time_ns()
                run()
                best[number] = min(best[number], (time.thread_time_ns() - start) * 1e-9)
    return best


def side_by_side(op: str, count: int, rounds: int, is_integer: bool = False) -> float:
    """Return the seconds of an operator on so many numbers: several beside each other read the same input."""
    given = np.uint8 if is_integer or op == "DequantizeLinear" else np.float32
    made = np.uint8 if is_integer or op == "QuantizeLinear" else np.float32

    def model(copies: int) -> Callable[[], object]:
        b = Builder(opset=17)
        x = b.input([1, count], "x", given)
        zero = b.constant(np.uint8(128))
        outputs = []
        for copy in range(copies):
            # Steps that differ: what is alike would be computed once.
            step = b.constant(np.float32(0.02 + 0.001 * copy))
            if op in _ROUNDING:
                outputs.append(b.op(op, x, step, zero))
                continue
            read = b.op("DequantizeLinear", x, step, zero) if is_integer else x
            slope = {"alpha": 0.1 + 0.01 * copy} if op == "LeakyRelu" else {}
            y = b.op(op, *[read] * (2 if op == "Add" else 1), **dict[str, Any](slope))
            outputs.append(b.op("QuantizeLinear", y, step, zero) if is_integer else y)
        values = (np.random.default_rng(0).standard_normal((1, count)) * 40 + 100).clip(0, 255).astype(given)
        return call(b.model(*outputs, dtypes=[made] * copies).to_proto(), values)

    short, long = least([model(each) for each in _COUNTS], rounds)
    return max(float(long - short) / (_COUNTS[1] - _COUNTS[0]), _SHORTEST)


def sizes(text: str) -> Iterator[tuple[str, int]]:
    """Yield what stands before and after each @."""
    for each in text.split():
        before, _, after = each.partition("@")
        yield before, int(after)


def points(rounds: int) -> Iterator[Point]:
    """Measure everything."""
    for kind, table in (("Conv", FULL), ("ConvEach", EACH)):
        for taps, text in table.items():
            for name, size in sizes(text):
                channels = int(name)
                is_full = kind == "Conv"
                work = Work(channels if is_full else 1, channels, size * size, taps * taps)
                chain = Chain((1, channels, size, size), conv(channels, taps, 1 if is_full else channels))
                yield from both(kind, work, chain, rounds)
    for name, size in sizes(GROUPS):
        channels, groups = map(int, name.split("/"))
        chain = Chain((1, channels, size, size), conv(channels, 3, groups))
        yield from both("ConvGroups", Work(channels // groups, channels, size * size, 9), chain, rounds)
    for name, size in sizes(PRODUCTS):
        yield from products(int(name), size, rounds)
    for name, size in sizes(MAPS):
        yield Point("Turn", Work(1, 1, int(name) * size * size), turn(int(name), size, rounds))
    for count in NUMBERS:
        work = Work(1, 1, count)
        for op in _ROUNDING:
            yield Point(op, work, side_by_side(op, count, rounds))
        for op in _OPS:
            yield Point(op, work, side_by_side(op, count, rounds))
            yield Point(f"{op}/8", work, side_by_side(op, count, rounds, is_integer=True))


def both(kind: str, work: Work, chain: Chain, rounds: int) -> Iterator[Point]:
    """Measure a chain in floats and in integers."""
    took = slopes([chain.selves(False), chain.selves(True)], chain.shape, rounds)
    yield Point(kind, work, took[0])
    yield Point(f"{kind}/8", work, took[1])


def products(width: int, count: int, rounds: int) -> Iterator[Point]:
    """Measure a product whose result floats read: the rounding of what it reads is taken off."""
    shape, work = (1, count, width), Work(width, width, count)
    behind = Chain(shape, product(width, "Tanh"))
    exact, floats, integers = slopes(
        [Chain(shape, product(width)).selves(False), behind.selves(False), behind.selves(True)], shape, rounds
    )
    yield Point("MatMul", work, exact)
    read = side_by_side("QuantizeLinear", width * count, rounds)
    yield Point("MatMul/8", work, max(exact + integers - floats - read, _SHORTEST))


def turn(channels: int, size: int, rounds: int) -> float:
    """Return what a convolution in floats between two of bytes takes besides: two conversions, and other layouts."""
    shape, one = (1, channels, size, size), conv(channels, 1)
    plain, mixed = Chain(shape, one), Chain(shape, one, ("layer1_*",))
    floats, integers, both_kinds = slopes(
        [plain.selves(False), plain.selves(True), mixed.selves(True)], shape, rounds
    )
    # Two of the layers in turns are one of bytes and one of floats.
    return max(2 * both_kinds - floats - integers, _SHORTEST)


def main() -> None:
    """Print the points, floats beside bytes."""
    parser = options_of(__doc__, rounds=60)
    parser.add_argument("--write", action="store_true", help="keep them for the pass")
    chosen = parser.parse_args()
    say("\n".join(head(["form", "inputs", "outputs", "positions", "taps", "us"])))
    found = []
    for point in points(chosen.rounds):
        found.append(point)
        work = point.work
        say(
            row(
                [
                    point.form,
                    *map(str, (work.inputs, work.outputs, work.positions, work.taps)),
                    f"{point.seconds * 1e6:.2f}",
                ]
            )
        )
    if chosen.write:
        Speeds("avx512", "AMD EPYC", f"onnxruntime {ort.__version__}", tuple(found)).save(FILE)


if __name__ == "__main__":
    main()
