"""Speed of the float layers over blocks of N outputs beside onnxruntime's dense ones, in a network.

`python -m tests.bench.block_sparse [--isa avx2]` prints tables for custom_ops/MEASURED.md. A cell is how many times as
fast as onnxruntime's float layer ours is, in bold where it misses what was planned; the blocks are random.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.blocks import pack
from graphrewrite.custom_ops.blocks.sample import sparse_weight
from graphrewrite.custom_ops.presence import forced
from graphrewrite.ir import Array
from tests.bench.common import command, facts, say, tell
from tests.bench.dense_layers import float_conv, float_product
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

Weight = npt.NDArray[np.float32]
SPARSITIES = (0.5, 0.75, 0.9)
# What blocks of 8 were planned to reach at 0.75 and 0.9, by kernel size and channels; and blocks of 16 on one row.
CONV_MUSTS = {
    (3, 64): (2.3, 4.5),
    (3, 128): (2.3, 4.5),
    (3, 256): (2.3, 4.5),
    (3, 512): (1.8, 4.8),
    (1, 64): (1.9, 3.2),
    (1, 128): (2.3, 4.2),
    (1, 256): (2.3, 4.2),
    (1, 512): (1.9, 4.2),
}
ROW_MUSTS = (6.0, 18.0)


def sparse_conv(
    channels: int, kernel: int, width: int, sparsity: float, number: int, x: str, y: str
) -> Layer:
    """Return our layer with random blocks of `width` outputs left."""
    weight = sparse_weight(
        np.random.default_rng(number), (channels, channels, kernel, kernel), width, sparsity
    )
    return ours("BlockSparseConv", x, y, number, _packed(weight, width), square(channels, kernel))


def sparse_product(
    inputs: int, outputs: int, width: int, sparsity: float, number: int, x: str, y: str
) -> Layer:
    """Return our product with random blocks of `width` outputs left."""
    weight = sparse_weight(np.random.default_rng(number), (outputs, inputs), width, sparsity)
    sizes = {"in_features": inputs, "out_features": outputs}
    return ours("BlockSparseMatMul", x, y, number, _packed(weight, width), sizes)


def _packed(weight: Weight, width: int) -> dict[str, Array]:
    blocks, positions = pack(weight, width)
    return {"blocks": blocks, "positions": positions, "bias": np.zeros(len(weight), np.float32)}


def cells(spent: Mapping[str, float], widths: list[int], musts: Mapping[int, tuple[float, ...]]) -> list[str]:
    """Return the time of the dense layer and, for each width, the ratios; `musts` belong to the last sparsities."""
    found = [us(spent["dense"])]
    for width in widths:
        ratios = [spent["dense"] / spent[f"{width} {sparsity}"] for sparsity in SPARSITIES]
        limits = (0.0, *musts.get(width, (0.0, 0.0)))
        found.append(" / ".join(map(told, ratios, limits)))
    return found


def columns(first: Sequence[str], widths: list[int]) -> list[str]:
    """Return the head of a table with a column for each width."""
    levels = " / ".join(map(str, SPARSITIES))
    return head([*first, "fp32 us", *(f"N={width} at {levels}" for width in widths)])


def convolutions(widths: list[int], rounds: int, threads: int, bars: bool) -> list[str]:
    """Return the table of convolutions, each a layer's time inside a network."""
    rows = columns(["layer"], widths)
    for kernel, channels, size in CONVOLUTIONS:
        x = np.random.default_rng(1).standard_normal((1, channels, size, size)).astype(np.float32)
        makers: dict[str, Maker] = {"dense": partial(float_conv, channels, kernel)}
        for width, sparsity in product(widths, SPARSITIES):
            makers[f"{width} {sparsity}"] = partial(sparse_conv, channels, kernel, width, sparsity)
        spent = in_a_network({name: (x, maker) for name, maker in makers.items()}, rounds, threads=threads)
        musts = {8: CONV_MUSTS[kernel, channels]} if bars else {}
        rows.append(row([f"{kernel}x{kernel} {channels}@{size}", *cells(spent, widths, musts)]))
        tell(rows[-1])
    return rows


def products(widths: list[int], batches: list[int], rounds: int, threads: int, bars: bool) -> list[str]:
    """Return the table of products whose weights come from memory."""
    rows = columns(["K x N", "batch"], widths)
    for (inputs, outputs), batch in product(MATRICES, batches):
        x = np.random.default_rng(1).standard_normal((batch, inputs)).astype(np.float32)
        makers: dict[str, Maker] = {"dense": partial(float_product, inputs, outputs)}
        for width, sparsity in product(widths, SPARSITIES):
            makers[f"{width} {sparsity}"] = partial(sparse_product, inputs, outputs, width, sparsity)
        layers = {name: (x, maker) for name, maker in makers.items()}
        spent = in_a_network(layers, rounds, cold=True, threads=threads)
        musts = {16: ROW_MUSTS} if bars and (batch, inputs) == (1, 4096) else {}
        rows.append(row([f"{inputs} x {outputs}", str(batch), *cells(spent, widths, musts)]))
        tell(rows[-1])
    return rows


def main() -> None:
    """Print the tables."""
    parser = options_of(__doc__, rounds=15)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--only", choices=["conv", "matmul"])
    parser.add_argument("--isa", help="an instruction set instead of the best; without bars")
    chosen = parser.parse_args()
    bars = chosen.isa is None and chosen.threads == 1
    say(f"{command()}; {facts()}")
    with forced(chosen.isa):
        if chosen.only != "matmul":
            say("\n".join(["", *convolutions(chosen.widths, chosen.rounds, chosen.threads, bars)]))
        if chosen.only != "conv":
            rows = products(chosen.widths, chosen.batches, chosen.rounds, chosen.threads, bars)
            say("\n".join(["", *rows]))
            say(f"\nNumbers in no cache are added up at {read_rate(chosen.threads) / 1e9:.1f} GB/s.")


if __name__ == "__main__":
    main()
