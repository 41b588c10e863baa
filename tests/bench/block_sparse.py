"""Speed of the float layers over blocks of N outputs beside onnxruntime's dense ones: one thread, in a network.

`python tests/bench/block_sparse.py [--write]` prints the tables; `--write` puts them into custom_ops/MEASURED.md.
A cell is how many times as fast as onnxruntime's float layer ours is, in bold where it misses what was planned.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

sys.path.append(str(Path(__file__).resolve().parents[2]))

from graphrewrite import custom_ops
from graphrewrite.custom_ops.blocks import pack
from graphrewrite.custom_ops.blocks.sample import sparse_weight
from graphrewrite.ir import Array
from tests.bench.common import ROOT, command, facts, write_section
from tests.bench.kernels_common import LAYERS, abreast, call, chained, in_a_chain

TITLE = "Float layers over blocks of N outputs (BlockSparseConv, BlockSparseMatMul)"
METHOD = """\
How many times as fast as onnxruntime's dense float layer, by the share of blocks that are zero; the blocks are random.
Bold where a bar is missed. Bars of convolutions over blocks of 8 at 0.75 and 0.9: 3x3 2.3 and 4.5 (512@7: 1.8 and 4.8),
1x1 2.3 and 4.2 (64@56: 1.9 and 3.2; 512@7: 1.9 and 4.2); of a product of one row of 4096 over blocks of 16: 6 and 18.
A convolution is what a layer adds to a chain, its data still in the cache; a product what a layer adds to layers side
by side after the caches were emptied. Roofs of this core: 118 GFLOP/s, of which onnxruntime's dense convolutions leave
3 to 20 %; memory is read at 23 to 34 GB/s (16 MiB in huge pages, others at work), of which onnxruntime's product takes
15 to 18. There the product of one row ends: it reads four times fewer bytes at 0.75 and moves 22 to 27 GB/s."""
FORCED = os.environ.get("GRAPHREWRITE_ISA", "")  # bars are those of the best kernels
SHAPES = (
    (3, 64, 56),
    (3, 128, 28),
    (3, 256, 14),
    (3, 512, 7),
    (1, 64, 56),
    (1, 128, 28),
    (1, 256, 14),
    (1, 512, 7),
)
SPARSITIES = (0.5, 0.75, 0.9)
MATRICES = ((4096, 4096), (1024, 1024), (768, 3072))
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

Layer = tuple[onnx.NodeProto, Mapping[str, Array]]
Maker = Callable[[int, str, str], Layer]


def dense_conv(channels: int, kernel: int, number: int, x: str, y: str) -> Layer:
    """Return onnxruntime's own layer, [channels, channels, kernel, kernel]."""
    weight = sparse_weight(np.random.default_rng(number), (channels, channels, kernel, kernel), 8, 0.0)
    names = [f"w{number}", f"b{number}"]
    node = helper.make_node("Conv", [x, *names], [y], pads=[kernel // 2] * 4)
    return node, dict(zip(names, (weight, np.zeros(channels, np.float32)), strict=True))


def sparse_conv(
    channels: int, kernel: int, width: int, sparsity: float, number: int, x: str, y: str
) -> Layer:
    """Return our layer with random blocks of `width` outputs left."""
    weight = sparse_weight(
        np.random.default_rng(number), (channels, channels, kernel, kernel), width, sparsity
    )
    names = [f"{part}{number}" for part in ("blocks", "positions", "bias")]
    attributes = custom_ops.find("BlockSparseConv").filled(
        {
            "in_channels": channels,
            "out_channels": channels,
            "kernel_shape": [kernel] * 2,
            "pads": [kernel // 2] * 4,
        }
    )
    node = helper.make_node("BlockSparseConv", [x, *names], [y], domain=custom_ops.DOMAIN, **attributes)  # type: ignore[arg-type]
    return node, dict(zip(names, (*pack(weight, width), np.zeros(channels, np.float32)), strict=True))


def dense_product(inputs: int, outputs: int, number: int, x: str, y: str) -> Layer:
    """Return onnxruntime's own product."""
    weight = sparse_weight(np.random.default_rng(number), (inputs, outputs), 1, 0.0)
    return helper.make_node("MatMul", [x, f"w{number}"], [y]), {f"w{number}": weight}


def sparse_product(
    inputs: int, outputs: int, width: int, sparsity: float, number: int, x: str, y: str
) -> Layer:
    """Return our product with random blocks of `width` outputs left."""
    weight = sparse_weight(np.random.default_rng(number), (outputs, inputs), width, sparsity)
    names = [f"{part}{number}" for part in ("blocks", "positions", "bias")]
    attributes = custom_ops.find("BlockSparseMatMul").filled({"in_features": inputs, "out_features": outputs})
    node = helper.make_node("BlockSparseMatMul", [x, *names], [y], domain=custom_ops.DOMAIN, **attributes)  # type: ignore[arg-type]
    return node, dict(zip(names, (*pack(weight, width), np.zeros(outputs, np.float32)), strict=True))


def cell(dense: float, ours: list[float], musts: tuple[float, ...]) -> str:
    """Return the ratios at each sparsity; `musts` belong to the last of them."""
    if FORCED:
        musts = ()
    limits = (0.0,) * (len(ours) - len(musts)) + musts
    ratios = [dense / seconds for seconds in ours]
    return " / ".join(
        f"{ratio:.1f}" if ratio >= limit else f"**{ratio:.1f}**"
        for ratio, limit in zip(ratios, limits, strict=True)
    )


def head(first: str, widths: list[int]) -> list[str]:
    """Return the head of a table with a column for each width."""
    levels = " / ".join(map(str, SPARSITIES))
    columns = " | ".join(f"N={width} at {levels}" for width in widths)
    return [f"| {first} | fp32 us | {columns} |", "|---" * (first.count("|") + 2 + len(widths)) + "|"]


def convolutions(widths: list[int], rounds: int, sizes: tuple[int, ...] = (3, 1)) -> list[str]:
    """Return the table of convolutions, each a layer's time inside a network."""
    rows = head("layer", widths)
    for kernel, channels, size in SHAPES:
        if kernel not in sizes:
            continue
        x = np.random.default_rng(1).standard_normal((1, channels, size, size)).astype(np.float32)
        makers: dict[str, Maker] = {"dense": partial(dense_conv, channels, kernel)}
        for width in widths:
            for sparsity in SPARSITIES:
                makers[f"{width} {sparsity}"] = partial(sparse_conv, channels, kernel, width, sparsity)
        calls = {
            name: [call(chained(x, n, maker), x, kernels=name != "dense") for n in (1, LAYERS)]
            for name, maker in makers.items()
        }
        spent = in_a_chain(calls, rounds)
        cells = [
            cell(
                spent["dense"],
                [spent[f"{width} {sparsity}"] for sparsity in SPARSITIES],
                CONV_MUSTS[kernel, channels] if width == 8 else (),
            )
            for width in widths
        ]
        rows.append(
            f"| {kernel}x{kernel} {channels}@{size} | {spent['dense'] * 1e6:.0f} | {' | '.join(cells)} |"
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def products(widths: list[int], batches: list[int], rounds: int) -> list[str]:
    """Return the table of products whose weights come from memory."""
    rows = head("K x N | batch", widths)
    for inputs, outputs in MATRICES:
        for batch in batches:
            x = np.random.default_rng(1).standard_normal((batch, inputs)).astype(np.float32)
            makers: dict[str, Maker] = {"dense": partial(dense_product, inputs, outputs)}
            for width in widths:
                for sparsity in SPARSITIES:
                    makers[f"{width} {sparsity}"] = partial(sparse_product, inputs, outputs, width, sparsity)
            calls = {
                name: [call(abreast(x, n, maker), x, kernels=name != "dense") for n in (1, LAYERS)]
                for name, maker in makers.items()
            }
            spent = in_a_chain(calls, rounds, cold=True)
            cells = [
                cell(
                    spent["dense"],
                    [spent[f"{width} {sparsity}"] for sparsity in SPARSITIES],
                    ROW_MUSTS if (width, batch, inputs) == (16, 1, 4096) else (),
                )
                for width in widths
            ]
            rows.append(
                f"| {inputs} x {outputs} | {batch} | {spent['dense'] * 1e6:.0f} | {' | '.join(cells)} |"
            )
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--only", choices=["conv", "matmul"])
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    tables = []
    if chosen.only != "matmul":
        tables.append("\n".join(convolutions(chosen.widths, chosen.rounds)))
    if chosen.only != "conv":
        tables.append("\n".join(products(chosen.widths, chosen.batches, chosen.rounds)))
    method = "As above, without bars." if FORCED else METHOD
    text = f"{command()}; {facts()}\n\n{method}\n\n" + "\n\n".join(tables)
    print(text)
    if chosen.write:
        title = f"{TITLE}, {FORCED} against what onnxruntime likes best" if FORCED else TITLE
        write_section(title, text, ROOT / "custom_ops" / "MEASURED.md")


if __name__ == "__main__":
    main()
