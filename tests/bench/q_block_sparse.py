"""Speed of the int8 layers over blocks of 16 outputs x 4 inputs beside onnxruntime's own, in a network.

`python -m tests.bench.q_block_sparse [--isa avx2]` prints tables for custom_ops/MEASURED.md. Musts are those the
kernels were planned with; a cell is the ratio to the rival, in bold where it misses its must.
"""

from functools import partial
from itertools import product

import numpy as np

from graphrewrite.custom_ops.presence import forced
from graphrewrite.custom_ops.quads import pack
from graphrewrite.custom_ops.quads.sample import sparse_weight
from graphrewrite.ir import Array
from tests.bench.common import command, facts, say, tell
from tests.bench.dense_layers import (
    float_conv,
    float_product,
    four_bit_product,
    int8_conv,
    int8_product,
    steps,
)
from tests.bench.kernels_common import (
    CONVOLUTIONS,
    MATRICES,
    Layer,
    Maker,
    head,
    in_a_network,
    options_of,
    ours,
    read_rate,
    row,
    square,
    told,
    us,
)

SPARSITIES = (0.0, 0.5, 0.75, 0.9)
# Against onnxruntime's int8 convolution, by kernel size; 1x1 with 64 channels is better left dense.
CONV_MUSTS = {3: {0.5: 1.4, 0.75: 2.3, 0.9: 3.7}, 1: {0.75: 1.6, 0.9: 2.2}}

# Products of one row of 4096 against float and onnxruntime's 4-bit product.
ROW_MUSTS = {0.75: (11.0, 3.0), 0.9: (25.0, 0.0)}


def sparse_conv(channels: int, kernel: int, sparsity: float, number: int, x: str, y: str) -> Layer:
    """Return our layer with random blocks left."""
    weight = sparse_weight(np.random.default_rng(number), (channels, channels, kernel, kernel), sparsity)
    blocks, positions = pack(weight)
    known = steps(channels, kernel)
    constants: dict[str, Array] = {
        "x_scale": known["x_scale"],
        "x_zero": known["x_zero"],
        "blocks": blocks,
        "positions": positions,
        "w_scale": known["w_scale"],
        "y_scale": known["x_scale"],
        "y_zero": known["x_zero"],
        "bias": known["bias"],
    }
    return ours("QBlockSparseConv", x, y, number, constants, square(channels, kernel))


def convolutions(rounds: int, threads: int, bars: bool) -> list[str]:
    """Return the table of convolutions, each a layer's time inside a network."""
    rows = head(
        ["layer", "fp32 us", "int8 us", f"vs int8 (vs fp32) at {SPARSITIES[0]}", *map(str, SPARSITIES[1:])]
    )
    for kernel, channels, size in CONVOLUTIONS:
        rng = np.random.default_rng(1)
        floats = rng.standard_normal((1, channels, size, size)).astype(np.float32)
        numbers = rng.integers(0, 256, floats.shape).astype(np.uint8)
        makers: dict[str, tuple[Array, Maker]] = {
            "fp32": (floats, partial(float_conv, channels, kernel)),
            "int8": (numbers, partial(int8_conv, channels, kernel)),
        }
        for sparsity in SPARSITIES:
            makers[str(sparsity)] = (numbers, partial(sparse_conv, channels, kernel, sparsity))
        spent = in_a_network(makers, rounds, threads=threads)
        musts = CONV_MUSTS[kernel] if bars and (kernel == 3 or channels >= 128) else {}
        cells = [
            f"{told(spent['int8'] / spent[str(s)], musts.get(s, 0.0), 2)} ({told(spent['fp32'] / spent[str(s)])})"
            for s in SPARSITIES
        ]
        rows.append(
            row([f"{kernel}x{kernel} {channels}@{size}", us(spent["fp32"]), us(spent["int8"]), *cells])
        )
        tell(rows[-1])
    return rows


def sparse_product(inputs: int, outputs: int, sparsity: float, number: int, x: str, y: str) -> Layer:
    """Return our product with random blocks left."""
    blocks, positions = pack(sparse_weight(np.random.default_rng(number), (outputs, inputs), sparsity))
    constants: dict[str, Array] = {
        "blocks": blocks,
        "positions": positions,
        "scale": np.full(outputs, 0.01, np.float32),
        "bias": np.zeros(outputs, np.float32),
    }
    sizes = {"in_features": inputs, "out_features": outputs}
    return ours("QBlockSparseMatMul", x, y, number, constants, sizes)


def products(batches: list[int], rounds: int, threads: int, bars: bool) -> list[str]:
    """Return the table of products, with caches emptied before each call."""
    rivals, levels = ("fp32", "4-bit", "int8"), SPARSITIES[1:]
    rows = head(
        ["K x N", "batch", *(f"{name} us" for name in rivals)]
        + [f"vs fp32 (vs 4-bit, vs int8) at {levels[0]}", *map(str, levels[1:]), "us"]
    )
    for (inputs, outputs), batch in product(MATRICES, batches):
        x = np.random.default_rng(1).standard_normal((batch, inputs)).astype(np.float32)
        makers: dict[str, Maker] = {
            "fp32": partial(float_product, inputs, outputs),
            "4-bit": partial(four_bit_product, inputs, outputs),
            "int8": partial(int8_product, inputs, outputs),
            **{str(s): partial(sparse_product, inputs, outputs, s) for s in levels},
        }
        layers = {name: (x, maker) for name, maker in makers.items()}
        spent = in_a_network(layers, rounds, cold=True, threads=threads)
        cells = [f"{inputs} x {outputs}", str(batch), *(us(spent[name]) for name in rivals)]
        for s in levels:
            musts = ROW_MUSTS.get(s, (0.0, 0.0)) if bars and (batch, inputs) == (1, 4096) else (0.0, 0.0)
            first, *others = map(told, (spent[name] / spent[str(s)] for name in rivals), (*musts, 0.0))
            cells.append(f"{first} ({', '.join(others)})")
        rows.append(row([*cells, " / ".join(us(spent[str(s)]) for s in levels)]))
        tell(rows[-1])
    return rows


def main() -> None:
    """Print the tables."""
    parser = options_of(__doc__, rounds=21)
    parser.add_argument("--only", choices=["conv", "matmul"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--isa", help="an instruction set instead of the best; without bars")
    chosen = parser.parse_args()
    bars = chosen.isa is None and chosen.threads == 1
    say(f"{command()}; {facts()}")
    with forced(chosen.isa):
        if chosen.only != "matmul":
            say("\n".join(["", *convolutions(chosen.rounds, chosen.threads, bars)]))
        if chosen.only != "conv":
            say("\n".join(["", *products(chosen.batches, chosen.rounds, chosen.threads, bars)]))
            say(f"\nNumbers in no cache are added up at {read_rate(chosen.threads) / 1e9:.1f} GB/s.")


if __name__ == "__main__":
    main()
