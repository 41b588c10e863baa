"""Speed of wavelet and Hadamard layers beside onnxruntime's products, alone and in nets: on one thread.

`python tests/bench/wavelet_linear.py [layers|nets]` prints tables for custom_ops/MEASURED.md. Warm is a session of one
node called several times in a row, all costs of the session included, as the musts are; cold is what a node adds to a
network whose weights come from memory. A cell is the ratio to the product of floats, in bold where it misses its must:
what the kernels were planned with, on another machine.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from graphrewrite import custom_ops
from graphrewrite.custom_ops.presence import forced
from graphrewrite.ir import Array, Builder, Model
from graphrewrite.passes.factor import Factorize, LowerWavelet, WriteOutGates
from graphrewrite.passes.factor.factorizations import factorizations
from graphrewrite.passes.factor.wavelets import coefficients, filters
from graphrewrite.pipeline import Pass, Pipeline
from tests.bench.kernels_common import LAYERS, abreast, call, chained, in_a_chain, session
from tests.bench.q_block_sparse import Layer, Maker, float_product, int8_product

SIZES = (1024, 4096)
BATCHES = (1, 32)
# Taps and levels of the wavelet layers; seven levels take 4096 down to about 32.
WAVELETS = ((4, 7), (8, 7), (6, 4))
IN_A_ROW = 8  # calls of a warm session
# Against the product of floats, by batch; both are stated for 4096.
MUSTS = {"hadamard": {1: 160.0, 32: 100.0}, "wavelet": {1: 120.0, 32: 62.0}}


def hadamard_layer(size: int, number: int, x: str, y: str) -> Layer:
    """Return a square Hadamard layer with random diagonals."""
    rng = np.random.default_rng(number)
    diagonals = {
        name: rng.standard_normal(size).astype(np.float32) for name in ("before", "middle", "after", "bias")
    }
    return _ours("HadamardLinear", {**diagonals, "permutation": rng.permutation(size)}, {}, number, x, y)


def wavelet_layer(size: int, taps: int, levels: int, number: int, x: str, y: str) -> Layer:
    """Return a square wavelet layer with random diagonals and four different filters."""
    rng = np.random.default_rng(number)
    count = coefficients(size, taps, levels)
    lengths = {"before": size, "middle": count, "after": size, "bias": size}
    values = {name: rng.standard_normal(length).astype(np.float32) for name, length in lengths.items()}
    pairs = zip(("analysis", "synthesis"), filters("haar", taps), strict=True)
    learned = {
        name: (pair + 0.05 * rng.standard_normal(pair.shape)).astype(np.float32) for name, pair in pairs
    }
    constants: dict[str, Array] = {**values, **learned, "permutation": rng.permutation(count)}
    return _ours("WaveletLinear", constants, {"size": size, "levels": levels}, number, x, y)


def _ours(
    op: str, constants: Mapping[str, Array], attributes: Mapping[str, int], number: int, x: str, y: str
) -> Layer:
    names = [port.name for port in custom_ops.find(op).inputs[1:]]
    node = helper.make_node(
        op,
        [x, *(f"{name}{number}" for name in names)],
        [y],
        domain=custom_ops.DOMAIN,
        **attributes,  # type: ignore[arg-type]
    )
    return node, {f"{name}{number}": value for name, value in constants.items()}


def layers(rounds: int) -> list[str]:
    """Return the rows of the table of single layers, for the best instruction set and for AVX2, warm and cold."""
    names = ["hadamard", *(f"wavelet {taps} taps, {levels} levels" for taps, levels in WAVELETS)]
    rows = [
        "| n, batch | caches | fp32 us | int8 us | "
        + " | ".join(f"{name}: us, vs fp32 (AVX2)" for name in names)
        + " |",
        "|---" * (4 + len(names)) + "|",
    ]
    for size in SIZES:
        for batch in BATCHES:
            x = np.random.default_rng(0).standard_normal((batch, size)).astype(np.float32)
            ours = [
                partial(hadamard_layer, size),
                *(partial(wavelet_layer, size, *each) for each in WAVELETS),
            ]
            theirs = {"fp32": partial(float_product, size, size), "int8": partial(int8_product, size, size)}
            makers: list[Named] = [(name, maker, None) for name, maker in theirs.items()]
            makers += [(f"{name}/best", maker, None) for name, maker in zip(names, ours, strict=True)]
            makers += [(f"{name}/avx2", maker, "avx2") for name, maker in zip(names, ours, strict=True)]
            for caches in ("warm", "cold"):
                spent = (_warm if caches == "warm" else _cold)(x, makers, rounds)
                cells = []
                for name in names:
                    best, avx2 = (spent["fp32"] / spent[f"{name}/{isa}"] for isa in ("best", "avx2"))
                    must = MUSTS[name.split()[0]][batch] if size == 4096 and caches == "warm" else 0.0
                    told = f"{best:.0f}" if best >= must else f"**{best:.0f}**"
                    cells.append(f"{spent[f'{name}/best'] * 1e6:.1f}, {told} ({avx2:.0f})")
                rows.append(
                    f"| {size}, {batch} | {caches} | {spent['fp32'] * 1e6:.0f} | "
                    f"{spent['int8'] * 1e6:.0f} | " + " | ".join(cells) + " |"
                )
                print(rows[-1], file=sys.stderr, flush=True)
    return rows


Named = tuple[str, Maker, str | None]  # a rival, what makes its nodes, the instruction set that is forced


def _warm(x: Array, makers: Sequence[Named], rounds: int) -> dict[str, float]:
    """Return CPU seconds of a session of one node, the mean of `IN_A_ROW` calls behind one that is not timed."""
    rivals: dict[str, Callable[[], object]] = {}
    for name, maker, isa in makers:
        with forced(isa):
            rivals[name] = _bound(chained(x, 1, maker), x)
    spent: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, run in rivals.items():
            run()
            start = time.thread_time_ns()
            for _ in range(IN_A_ROW):
                run()
            spent[name].append((time.thread_time_ns() - start) * 1e-9 / IN_A_ROW)
    return {name: median(values) for name, values in spent.items()}


def _bound(model: onnx.ModelProto, x: Array) -> Callable[[], object]:
    """Return a call whose input and output stay where they are: Python's own part is 4 us instead of 36."""
    started = session(model)
    binding, y = started.io_binding(), np.empty_like(x)
    binding.bind_cpu_input("x", x)
    binding.bind_output(started.get_outputs()[0].name, "cpu", 0, np.float32, y.shape, y.ctypes.data)
    return lambda: (started.run_with_iobinding(binding), y)


def _cold(x: Array, makers: Sequence[Named], rounds: int) -> dict[str, float]:
    """Return CPU seconds that a node adds to a network, caches emptied before each call."""
    rivals = {}
    for name, maker, isa in makers:
        with forced(isa):
            rivals[name] = [call(abreast(x, count, maker), x) for count in (1, LAYERS)]
    return in_a_chain(rivals, rounds, cold=True)


def recurrent(op: str, width: int, steps: int) -> tuple[Model, dict[str, Array]]:
    """Return a GRU or LSTM over so many steps of one sequence, and what to feed it."""
    b = Builder(opset=17, seed=1)
    gates = {"GRU": 3, "LSTM": 4}[op] * width
    x = b.input([steps, 1, width], "x")
    biases = b.constant((0.1 * b.rng.standard_normal((1, 2 * gates))).astype(np.float32))
    y = b.op(
        op, x, b.weight(1, gates, width), b.weight(1, gates, width), biases, name="cell", hidden_size=width
    )
    return b.model(y), {"x": b.rng.standard_normal((steps, 1, width)).astype(np.float32)}


def transformer(width: int, tokens: int) -> tuple[Model, dict[str, Array]]:
    """Return a transformer block (16 heads, hidden layer of 4 times the width), and what to feed it."""
    b = Builder(opset=17, seed=1)
    x = b.input([1, tokens, width], "x")
    heads = b.constant(np.array([0, 0, 16, width // 16]))
    flat = b.constant(np.array([0, 0, width]))

    def norm(value: object) -> object:
        return b.op("LayerNormalization", value, b.constant(np.ones(width, np.float32)), axis=-1)

    def linear(value: object, wide: int, out: int, name: str) -> object:
        weight = b.constant((b.rng.standard_normal((wide, out)) / wide**0.5).astype(np.float32))
        return b.op("MatMul", value, weight, name=name)

    normed = norm(x)
    split = {
        name: b.op("Transpose", b.op("Reshape", linear(normed, width, width, name), heads), perm=perm)
        for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3]))
    }
    scores = b.op("Softmax", b.op("MatMul", split["q"], split["k"]), axis=-1)
    mixed = b.op("Reshape", b.op("Transpose", b.op("MatMul", scores, split["v"]), perm=[0, 2, 1, 3]), flat)
    after = b.op("Add", x, linear(mixed, width, width, "o"))
    hidden = b.op("Relu", linear(norm(after), width, 4 * width, "up"))
    y = b.op("Add", after, linear(hidden, 4 * width, width, "down"))
    return b.model(y), {"x": b.rng.standard_normal((1, tokens, width)).astype(np.float32)}


def factored(model: Model, name: str) -> onnx.ModelProto:
    """Return a net whose products are layers of ours; the numbers are where training would start."""
    fields = {"rounds": 0, "permutation": "random"}
    steps: list[Pass] = [WriteOutGates(), Factorize(factorizations.make(name, **fields)), LowerWavelet()]
    return Pipeline(steps, verify="off").run(model).model.to_proto()


def quantised(model: Model) -> onnx.ModelProto:
    """Return a net as onnxruntime's own tool makes its weights int8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        model.save(source)
        quantize_dynamic(source, target, weight_type=QuantType.QInt8)
        return onnx.load(target)


def nets(rounds: int) -> list[str]:
    """Return the rows of the table of whole nets: CPU and wall-clock milliseconds, and bytes of the file."""
    made = {
        "GRU 1024, 64 steps": recurrent("GRU", 1024, 64),
        "LSTM 1024, 64 steps": recurrent("LSTM", 1024, 64),
        "transformer block 1024, 1 token": transformer(1024, 1),
        "transformer block 1024, 32 tokens": transformer(1024, 32),
    }
    columns = ("fp32", "int8", "wavelet", "hadamard")
    rows = [
        "| net | " + " | ".join(f"{name}: CPU ms, wall ms, MB" for name in columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for name, (model, feeds) in made.items():
        protos = {
            "fp32": model.to_proto(),
            "int8": quantised(model),
            "wavelet": factored(model, "wavelet"),
            "hadamard": factored(model, "hadamard"),
        }
        spent = _both_clocks(
            {key: partial(_session(proto).run, None, feeds) for key, proto in protos.items()}, rounds
        )
        base = spent["fp32"]
        cells = [
            f"{cpu * 1e3:.2f} ({base[0] / cpu:.1f}x), {wall * 1e3:.2f} ({base[1] / wall:.1f}x), "
            f"{protos[key].ByteSize() / 1e6:.1f}"
            for key, (cpu, wall) in spent.items()
        ]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _session(proto: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    custom_ops.register(options)
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _both_clocks(rivals: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return median CPU and wall-clock seconds of each rival, all measured in turns."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in rivals}
    for run in rivals.values():
        run()
    for _ in range(rounds):
        for name, run in rivals.items():
            wall, cpu = time.perf_counter(), time.thread_time()
            run()
            spent[name].append((time.thread_time() - cpu, time.perf_counter() - wall))
    return {
        name: (median(c for c, _ in values), median(w for _, w in values)) for name, values in spent.items()
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="?", choices=["layers", "nets"])
    parser.add_argument("--rounds", type=int, default=31)
    chosen = parser.parse_args()
    if chosen.only != "nets":
        print("\n".join(layers(chosen.rounds)))
    if chosen.only != "layers":
        print("\n".join(nets(chosen.rounds)))


if __name__ == "__main__":
    main()
