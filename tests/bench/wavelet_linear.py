"""Speed of wavelet and Hadamard layers beside onnxruntime's products, alone and in nets.

`python -m tests.bench.wavelet_linear [layers|nets]` prints tables for custom_ops/MEASURED.md. Warm is a session of one
node called several times in a row, all costs of the session included, as the musts are; cold is what a node adds to a
network whose weights come from memory. A cell is the ratio to the product of floats, in bold where it misses its must:
what the kernels were planned with, on another machine.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx

from graphrewrite.custom_ops.presence import forced
from graphrewrite.ir import Array, Builder, Model
from graphrewrite.passes.factor import Factorize, LowerWavelet, WriteOutGates
from graphrewrite.passes.factor.factorizations import factorizations
from graphrewrite.passes.factor.wavelets import coefficients, filters
from graphrewrite.pipeline import Pass, Pipeline
from tests.bench.alone import Patience
from tests.bench.common import command, facts, say, tell
from tests.bench.dense_layers import float_product, int8_product
from tests.bench.kernels_common import (
    LAYERS,
    Layer,
    Maker,
    abreast,
    call,
    chained,
    clock,
    head,
    middle_of,
    options_of,
    ours,
    row,
    session,
    slopes,
    told,
    us,
)
from tests.bench.models_common import cell, dynamically_int8, measure, recurrent

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
    before, middle, after, bias = rng.standard_normal((4, size)).astype(np.float32)
    permutation = rng.permutation(size)
    constants = {"before": before, "permutation": permutation, "middle": middle, "after": after, "bias": bias}
    return ours("HadamardLinear", x, y, number, constants, {})


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
    known: dict[str, Array] = {**values, **learned, "permutation": rng.permutation(count)}
    order = ("before", "analysis", "permutation", "middle", "synthesis", "after", "bias")
    constants = {name: known[name] for name in order}
    return ours("WaveletLinear", x, y, number, constants, {"size": size, "levels": levels})


def layers(rounds: int, threads: int) -> list[str]:
    """Return the rows of the table of single layers, for the best instruction set and for AVX2, warm and cold."""
    names = ["hadamard", *(f"wavelet {taps} taps, {levels} levels" for taps, levels in WAVELETS)]
    columns = [f"{name}: us, vs fp32 (AVX2)" for name in names]
    rows = head(["n, batch", "caches", "fp32 us", "int8 us", *columns])
    for size in SIZES:
        for batch in BATCHES:
            x = np.random.default_rng(0).standard_normal((batch, size)).astype(np.float32)
            own = [
                partial(hadamard_layer, size),
                *(partial(wavelet_layer, size, *each) for each in WAVELETS),
            ]
            theirs = {"fp32": partial(float_product, size, size), "int8": partial(int8_product, size, size)}
            makers: list[Named] = [(name, maker, None) for name, maker in theirs.items()]
            makers += [(f"{name}/best", maker, None) for name, maker in zip(names, own, strict=True)]
            makers += [(f"{name}/avx2", maker, "avx2") for name, maker in zip(names, own, strict=True)]
            for caches in ("warm", "cold"):
                spent = (_warm if caches == "warm" else _cold)(x, makers, rounds, threads)
                cells = []
                for name in names:
                    best, avx2 = (spent["fp32"] / spent[f"{name}/{isa}"] for isa in ("best", "avx2"))
                    must = MUSTS[name.split()[0]][batch] if size == 4096 and caches == "warm" else 0.0
                    told_best = told(best, must if threads == 1 else 0.0, 0)
                    cells.append(f"{spent[f'{name}/best'] * 1e6:.1f}, {told_best} ({avx2:.0f})")
                rows.append(row([f"{size}, {batch}", caches, us(spent["fp32"]), us(spent["int8"]), *cells]))
                tell(rows[-1])
    return rows


Named = tuple[str, Maker, str | None]  # a rival, what makes its nodes, the instruction set that is forced


def _warm(x: Array, makers: Sequence[Named], rounds: int, threads: int) -> dict[str, float]:
    """Return seconds of a session of one node, the mean of `IN_A_ROW` calls behind one that is not timed."""
    now = clock(threads)
    rivals: dict[str, Callable[[], object]] = {}
    for name, maker, isa in makers:
        with forced(isa):
            rivals[name] = _bound(chained(x, 1, maker), x, threads)
    spent: dict[str, list[float]] = {name: [] for name in rivals}

    def once(run: Callable[[], object]) -> float:
        run()
        start = now()
        for _ in range(IN_A_ROW):
            run()
        return (now() - start) * 1e-9 / IN_A_ROW

    patience = Patience()
    for _ in range(rounds):
        for name, run in rivals.items():
            spent[name].append(patience.alone(partial(once, run)))
    return {name: middle_of(threads)(values) for name, values in spent.items()}


def _bound(model: onnx.ModelProto, x: Array, threads: int) -> Callable[[], object]:
    """Return a call whose input and output stay where they are: Python's own part is 4 us instead of 36."""
    started = session(model, threads)
    binding, y = started.io_binding(), np.empty_like(x)
    binding.bind_cpu_input("x", x)
    binding.bind_output(started.get_outputs()[0].name, "cpu", 0, np.float32, y.shape, y.ctypes.data)
    return lambda: (started.run_with_iobinding(binding), y)


def _cold(x: Array, makers: Sequence[Named], rounds: int, threads: int) -> dict[str, float]:
    """Return seconds that a node adds to a network, caches emptied before each call."""
    rivals = {}
    for name, maker, isa in makers:
        with forced(isa):
            rivals[name] = [call(abreast(x, count, maker), x, threads) for count in (1, LAYERS)]
    return slopes(rivals, rounds, cold=True, threads=threads)


def transformer(width: int, tokens: int) -> Model:
    """Return a transformer block (16 heads, hidden layer of 4 times the width)."""
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
    return b.model(y)


def factored(model: Model, name: str) -> Model:
    """Return a net whose products are layers of ours; the numbers are where training would start."""
    fields = {"rounds": 0, "permutation": "random"}
    steps: list[Pass] = [WriteOutGates(), Factorize(factorizations.make(name, **fields)), LowerWavelet()]
    return Pipeline(steps, verify="off").run(model).model


def nets(rounds: int, threads: int) -> list[str]:
    """Return the rows of the table of whole nets: wall-clock and CPU milliseconds, and bytes of the file."""
    made = {
        "GRU 1024, 64 steps": recurrent("GRU", 1024, 64),
        "LSTM 1024, 64 steps": recurrent("LSTM", 1024, 64),
        "transformer block 1024, 1 token": transformer(1024, 1),
        "transformer block 1024, 32 tokens": transformer(1024, 32),
    }
    names = ("fp32", "int8", "wavelet", "hadamard")
    rows = head(["net", "threads", *(f"{name}: wall ms (CPU), MB" for name in names)])
    for title, model in made.items():
        selves = {"fp32": model, "int8": dynamically_int8(model)}
        selves |= {name: factored(model, name) for name in names[2:]}
        spent = measure(selves, rounds, threads)
        sizes = {name: each.to_proto().ByteSize() / 1e6 for name, each in selves.items()}
        cells = [f"{cell(spent, name, threads)}, {sizes[name]:.1f}" for name in names]
        rows.append(row([title, str(threads), *cells]))
        tell(rows[-1])
    return rows


def main() -> None:
    """Print the tables."""
    parser = options_of(__doc__, rounds=31)
    parser.add_argument("only", nargs="?", choices=["layers", "nets"])
    chosen = parser.parse_args()
    say(f"{command()}; {facts()}")
    for name, rows_of in {"layers": layers, "nets": nets}.items():
        if chosen.only in (None, name):
            say("\n".join(["", *rows_of(chosen.rounds, chosen.threads)]))


if __name__ == "__main__":
    main()
