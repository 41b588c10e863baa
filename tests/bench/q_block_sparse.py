"""Speed of the int8 layers over blocks of 16 outputs x 4 inputs beside onnxruntime's own: one thread, in a network.

`python tests/bench/q_block_sparse.py [--write]` prints the tables; `--write` puts them into custom_ops/MEASURED.md.
Musts are those the kernels were planned with; a cell is the ratio to the rival, in bold where it misses its must.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import onnx
from onnx import helper

from graphrewrite import custom_ops
from graphrewrite.custom_ops.quads import pack
from graphrewrite.custom_ops.quads.sample import sparse_weight
from graphrewrite.ir import Array
from tests.bench.common import ROOT, command, facts, write_section
from tests.bench.kernels_common import LAYERS, abreast, call, chained, in_a_chain

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
SPARSITIES = (0.0, 0.5, 0.75, 0.9)
MATRICES = ((4096, 4096), (1024, 1024), (768, 3072))
# Against onnxruntime's int8 convolution, by kernel size; 1x1 with 64 channels is better left dense.
CONV_MUSTS = {3: {0.5: 1.4, 0.75: 2.3, 0.9: 3.7}, 1: {0.75: 1.6, 0.9: 2.2}}

TITLE = "int8 blocks of 16 outputs x 4 inputs"
METHOD = (
    "CPU seconds of one thread, rivals in turns, medians. Convolutions: what a layer adds to a chain of like layers, "
    "C in = C out; cells are ratios to onnxruntime's int8 layer, in brackets to its float one, in bold below the must "
    "of the plan. Products: what a layer adds to layers side by side after the caches were emptied; cells are ratios "
    "to float (to 4-bit weights, to int8), `us` are ours."
)

REMARKS = (
    "Found on 2026-11-21: the registers' roof for int8 is 469 G operations a second here, and memory reads 25 GB/s. "
    "Dense, 3x3 layers reach 85 % of the first, which is what onnxruntime's int8 reaches; at 0.75 about 70 %, the rest "
    "goes into copying the input and storing the output. Kernels without a call read weights from cold memory as fast "
    "as a plain loop does. Musts of products of one row (11 times float and 3 times 4-bit at 0.75, 25 times float at "
    "0.9) hold for 4096 x 4096; 1024 x 1024 misses the last two and 768 x 3072 the last: some 10 us of a cold call "
    "are not the kernel's. Forced to AVX2, convolutions with weights that fill int8 evenly run 0.8 times as fast as "
    "onnxruntime's AVX-512 at 0.75, and 1.8 times at 0.9."
)

Layer = tuple[onnx.NodeProto, Mapping[str, Array]]
Maker = Callable[[int, str, str], Layer]


def float_conv(channels: int, kernel: int, number: int, x: str, y: str) -> Layer:
    """Return a dense layer of floats."""
    weight = (
        np.random.default_rng(number).standard_normal((channels, channels, kernel, kernel)).astype(np.float32)
    )
    names = [f"w{number}", f"b{number}"]
    node = helper.make_node("Conv", [x, *names], [y], pads=[kernel // 2] * 4)
    return node, dict(
        zip(names, (weight / kernel / channels**0.5, np.zeros(channels, np.float32)), strict=True)
    )


def steps(channels: int, kernel: int) -> dict[str, Array]:
    """Return scales, zero points and bias of a layer whose outputs fill their range about as its inputs do."""
    return {
        "x_scale": np.array(0.05, np.float32),
        "x_zero": np.array(128, np.uint8),
        "w_zero": np.array(0, np.int8),
        "w_scale": np.full(channels, 1 / (74 * kernel * channels**0.5), np.float32),
        "bias": np.zeros(channels, np.int32),
    }


def int8_conv(channels: int, kernel: int, number: int, x: str, y: str) -> Layer:
    """Return onnxruntime's own dense int8 layer."""
    weight = sparse_weight(np.random.default_rng(number), (channels, channels, kernel, kernel), 0.0)
    inputs = [x, "x_scale", "x_zero", f"w{number}", "w_scale", "w_zero", "x_scale", "x_zero", "bias"]
    node = helper.make_node("QLinearConv", inputs, [y], pads=[kernel // 2] * 4)
    return node, {f"w{number}": weight, **steps(channels, kernel)}


def sparse_conv(channels: int, kernel: int, sparsity: float, number: int, x: str, y: str) -> Layer:
    """Return our layer with random blocks left."""
    weight = sparse_weight(np.random.default_rng(number), (channels, channels, kernel, kernel), sparsity)
    packed = pack(weight)
    names = [f"blocks{number}", f"positions{number}"]
    inputs = [x, "x_scale", "x_zero", *names, "w_scale", "x_scale", "x_zero", "bias"]
    attributes = custom_ops.find("QBlockSparseConv").filled(
        {
            "in_channels": channels,
            "out_channels": channels,
            "kernel_shape": [kernel] * 2,
            "pads": [kernel // 2] * 4,
        }
    )
    node = helper.make_node("QBlockSparseConv", inputs, [y], domain=custom_ops.DOMAIN, **attributes)  # type: ignore[arg-type]
    return node, {**dict(zip(names, packed, strict=True)), **steps(channels, kernel)}


def convolutions(rounds: int, kernels: tuple[int, ...] = (3, 1)) -> list[str]:
    """Return the rows of the table of convolutions, each a layer's time inside a network."""
    rows = [
        "| layer | fp32 us | int8 us | vs int8 (vs fp32) at " + " | ".join(map(str, SPARSITIES)) + " |",
        "|---" * (3 + len(SPARSITIES)) + "|",
    ]
    for kernel, channels, size in SHAPES:
        if kernel not in kernels:
            continue
        rng = np.random.default_rng(1)
        floats = rng.standard_normal((1, channels, size, size)).astype(np.float32)
        numbers = rng.integers(0, 256, floats.shape).astype(np.uint8)
        makers: dict[str, tuple[Array, Maker]] = {
            "fp32": (floats, partial(float_conv, channels, kernel)),
            "int8": (numbers, partial(int8_conv, channels, kernel)),
        }
        for sparsity in SPARSITIES:
            makers[str(sparsity)] = (numbers, partial(sparse_conv, channels, kernel, sparsity))
        spent = in_a_chain(
            {
                name: [
                    call(chained(x, n, maker), x, kernels=name not in ("fp32", "int8")) for n in (1, LAYERS)
                ]
                for name, (x, maker) in makers.items()
            },
            rounds,
        )
        cells = []
        for sparsity in SPARSITIES:
            ours = spent[str(sparsity)]
            must = CONV_MUSTS[kernel].get(sparsity, 0.0) if kernel == 3 or channels >= 128 else 0.0
            ratio = spent["int8"] / ours
            text = f"{ratio:.2f}" if ratio >= must else f"**{ratio:.2f}**"
            cells.append(f"{text} ({spent['fp32'] / ours:.1f})")
        rows.append(
            f"| {kernel}x{kernel} {channels}@{size} | {spent['fp32'] * 1e6:.0f} | {spent['int8'] * 1e6:.0f} | "
            + " | ".join(cells)
            + " |"
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def float_product(inputs: int, outputs: int, number: int, x: str, y: str) -> Layer:
    """Return onnxruntime's product of floats."""
    weight = np.random.default_rng(number).standard_normal((inputs, outputs)).astype(np.float32)
    return helper.make_node("MatMul", [x, f"w{number}"], [y]), {f"w{number}": weight}


def four_bit_product(inputs: int, outputs: int, number: int, x: str, y: str) -> Layer:
    """Return onnxruntime's product with 4-bit weights in groups of 32, computed in int8."""
    rng = np.random.default_rng(number)
    packed = rng.integers(0, 256, (outputs, inputs // 32, 16)).astype(np.uint8)
    node = helper.make_node(
        "MatMulNBits",
        [x, f"w{number}", f"s{number}"],
        [y],
        domain="com.microsoft",
        K=inputs,
        N=outputs,
        bits=4,
        block_size=32,
        accuracy_level=4,
    )
    return node, {
        f"w{number}": packed,
        f"s{number}": rng.uniform(0.01, 0.02, outputs * inputs // 32).astype(np.float32),
    }


def int8_product(inputs: int, outputs: int, number: int, x: str, y: str) -> Layer:
    """Return onnxruntime's product with int8 weights whose inputs are quantised inside."""
    weight = sparse_weight(np.random.default_rng(number), (outputs, inputs), 0.0).T
    node = helper.make_node("DynamicQuantizeMatMul", [x, f"w{number}", "s"], [y], domain="com.microsoft")
    return node, {f"w{number}": np.ascontiguousarray(weight), "s": np.full(outputs, 0.01, np.float32)}


def sparse_product(inputs: int, outputs: int, sparsity: float, number: int, x: str, y: str) -> Layer:
    """Return our product with random blocks left."""
    packed = pack(sparse_weight(np.random.default_rng(number), (outputs, inputs), sparsity))
    attributes = custom_ops.find("QBlockSparseMatMul").filled(
        {"in_features": inputs, "out_features": outputs}
    )
    names = [f"blocks{number}", f"positions{number}", "scale", "bias"]
    node = helper.make_node("QBlockSparseMatMul", [x, *names], [y], domain=custom_ops.DOMAIN, **attributes)  # type: ignore[arg-type]
    values = (*packed, np.full(outputs, 0.01, np.float32), np.zeros(outputs, np.float32))
    return node, dict(zip(names, values, strict=True))


def products(batches: tuple[int, ...], rounds: int) -> list[str]:
    """Return the rows of the table of products, with caches emptied before each call."""
    rows = [
        "| K x N | batch | fp32 us | 4-bit us | int8 us | vs fp32 (vs 4-bit, vs int8) at "
        + " | ".join(map(str, SPARSITIES[1:]))
        + " | us |",
        "|---" * (6 + len(SPARSITIES[1:])) + "|",
    ]
    for inputs, outputs in MATRICES:
        for batch in batches:
            x = np.random.default_rng(1).standard_normal((batch, inputs)).astype(np.float32)
            rivals = {
                "fp32": partial(float_product, inputs, outputs),
                "4-bit": partial(four_bit_product, inputs, outputs),
                "int8": partial(int8_product, inputs, outputs),
                **{str(s): partial(sparse_product, inputs, outputs, s) for s in SPARSITIES[1:]},
            }
            spent = in_a_chain(
                {
                    name: [call(abreast(x, n, maker), x, kernels=name[0] == "0") for n in (1, LAYERS)]
                    for name, maker in rivals.items()
                },
                rounds,
                cold=True,
            )
            cells = [
                f"{spent['fp32'] / spent[str(s)]:.1f} ({spent['4-bit'] / spent[str(s)]:.1f}, "
                f"{spent['int8'] / spent[str(s)]:.1f})"
                for s in SPARSITIES[1:]
            ]
            cells.append(" / ".join(f"{spent[str(s)] * 1e6:.0f}" for s in SPARSITIES[1:]))
            times = " | ".join(f"{spent[name] * 1e6:.0f}" for name in ("fp32", "4-bit", "int8"))
            rows.append(f"| {inputs} x {outputs} | {batch} | {times} | " + " | ".join(cells) + " |")
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--only", choices=["conv", "matmul"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    tables = []
    if chosen.only != "matmul":
        tables.append("\n".join(convolutions(chosen.rounds)))
    if chosen.only != "conv":
        tables.append("\n".join(products(tuple(chosen.batches), chosen.rounds)))
    text = f"{command()}; {facts()}\n\n{METHOD}\n\n" + "\n\n".join([*tables, REMARKS])
    print(text)
    if chosen.write:
        write_section(TITLE, text, ROOT / "custom_ops" / "MEASURED.md")


if __name__ == "__main__":
    main()
