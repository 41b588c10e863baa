"""1xN sparsity at every width, beside dense layers and beside the same numbers of single weights in rows (CSR).

`python -m tests.bench.one_by_n` prints tables for guide/methods/one_by_n.md. A cell is how many times as fast as
onnxruntime's dense layer. "CSR" is scipy's product of a sparse and a dense matrix at equally many weights, which a
product is and a convolution of one tap becomes; a kernel for single weights, compiled, on one thread. Blocks of two
run in the kernel for four. The net is ResNet-18 of `sparse_models`, all layers lowered.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
from scipy import sparse

from graphrewrite.custom_ops.blocks import pack
from graphrewrite.custom_ops.blocks.sample import sparse_weight
from graphrewrite.ir import Array
from graphrewrite.passes.sparse import LowerBlockSparse, MaskBlocks
from graphrewrite.passes.sparse.masks.one_by_n import OneByN
from graphrewrite.pipeline import Pipeline
from tests.bench.common import command, facts, say
from tests.bench.dense_layers import float_conv, float_product
from tests.bench.kernels_common import (
    LAYERS,
    Layer,
    Maker,
    call,
    chained,
    head,
    options_of,
    ours,
    row,
    slopes,
    square,
    us,
)
from tests.bench.models_common import measure, times
from tests.bench.sparse_models import SIDE, resnet18

WIDTHS = (2, 4, 8, 16, 32)
SPARSITIES = (0.5, 0.75, 0.9)
CONVOLUTIONS = ((3, 128, 28), (1, 256, 14))  # kernel size, channels in and out, size of the picture
PRODUCT = (1024, 8)  # features in and out, rows


def blocks(shape: tuple[int, ...], n: int, sparsity: float, number: int) -> dict[str, Array]:
    """Return packed random blocks of `n` outputs."""
    weight = sparse_weight(np.random.default_rng(number), shape, n, sparsity)
    packed, positions = pack(weight, max(n, 4))
    return {"blocks": packed, "positions": positions, "bias": np.zeros(len(weight), np.float32)}


def sparse_conv(kernel: int, channels: int, n: int, sparsity: float, number: int, x: str, y: str) -> Layer:
    """Return our convolution."""
    constants = blocks((channels, channels, kernel, kernel), n, sparsity, number)
    return ours("BlockSparseConv", x, y, number, constants, square(channels, kernel))


def sparse_product(features: int, n: int, sparsity: float, number: int, x: str, y: str) -> Layer:
    """Return our product."""
    constants = blocks((features, features), n, sparsity, number)
    sizes = {"in_features": features, "out_features": features}
    return ours("BlockSparseMatMul", x, y, number, constants, sizes)


def by_rows(features: int, columns: int, sparsity: float) -> list[Callable[[], object]]:
    """Return calls of one product with single weights in rows, and of `LAYERS` in a chain."""
    rng = np.random.default_rng(2)
    layers = [sparse.random(features, features, 1 - sparsity, "csr", np.float32, rng) for _ in range(LAYERS)]
    x = rng.standard_normal((features, columns)).astype(np.float32)

    def chain(count: int) -> object:
        y = x
        for layer in layers[:count]:
            y = layer @ y
        return y

    return [partial(chain, 1), partial(chain, LAYERS)]


def of_layer(
    x: Array, dense: Maker, made: Callable[[int, float], Maker], features: int, columns: int, rounds: int
) -> list[str]:
    """Return one layer's cells: the dense time, one for every width, and one for rows where `columns` is set."""

    def calls(maker: Maker) -> list[Callable[[], object]]:
        models: list[onnx.ModelProto] = [chained(x, count, maker) for count in (1, LAYERS)]
        return [call(model, x) for model in models]

    rivals = {"dense": calls(dense)}
    for n in WIDTHS:
        rivals |= {f"{n} {sparsity}": calls(made(n, sparsity)) for sparsity in SPARSITIES}
    if columns:
        rivals |= {f"csr {sparsity}": by_rows(features, columns, sparsity) for sparsity in SPARSITIES}
    spent = slopes(rivals, rounds)

    def cell(name: str) -> str:
        return " / ".join(f"{spent['dense'] / spent[f'{name} {sparsity}']:.1f}" for sparsity in SPARSITIES)

    return [us(spent["dense"]), *(cell(str(n)) for n in WIDTHS), cell("csr") if columns else ""]


def main() -> None:
    """Print the tables."""
    chosen = options_of(__doc__, rounds=15).parse_args()
    say(f"{command()}; {facts()}\n")
    levels = " / ".join(map(str, SPARSITIES))
    say("\n".join(head([f"at {levels}", "dense us", *(f"N={n}" for n in WIDTHS), "CSR"])))
    rng = np.random.default_rng(1)
    for kernel, channels, size in CONVOLUTIONS:
        x = rng.standard_normal((1, channels, size, size)).astype(np.float32)
        made = partial(partial, sparse_conv, kernel, channels)
        columns = size * size if kernel == 1 else 0
        cells = of_layer(x, partial(float_conv, channels, kernel), made, channels, columns, chosen.rounds)
        say(row([f"{kernel}x{kernel} {channels}@{size}", *cells]))
    features, rows = PRODUCT
    x = rng.standard_normal((rows, features)).astype(np.float32)
    made = partial(partial, sparse_product, features)
    cells = of_layer(x, partial(float_product, features, features), made, features, rows, chosen.rounds)
    say(row([f"product {features}, {rows} rows", *cells]))
    net(chosen.rounds, chosen.threads)


def net(rounds: int, threads: int) -> None:
    """Print the row of the whole net."""
    model = resnet18()
    models = {"fp32": model}
    for n in WIDTHS:
        for sparsity in SPARSITIES:
            steps = (MaskBlocks(OneByN(n), sparsity), LowerBlockSparse(min_sparsity=0.3, when="always"))
            models[f"{n} {sparsity}"] = Pipeline(steps, verify="structure").run(model).model
    spent = measure(models, rounds, threads)
    cells = [
        " / ".join(
            f"{times(spent['fp32'], spent[f'{n} {sparsity}'], threads):.1f}" for sparsity in SPARSITIES
        )
        for n in WIDTHS
    ]
    say(row([f"ResNet-18 at {SIDE}", us(spent["fp32"].cpu), *cells, ""]))


if __name__ == "__main__":
    main()
