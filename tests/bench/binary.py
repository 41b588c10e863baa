"""Speed of binary layers beside onnxruntime's float and int8 ones: inside a network, on one thread.

`python tests/bench/binary.py [layers|products|network]` prints tables for custom_ops/MEASURED.md. A cell is the ratio
to the rival, in bold where it misses its must: what the kernels were planned with, on another machine.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import onnx
from onnx import helper

from graphrewrite import custom_ops
from graphrewrite.custom_ops.binary.pack import pack, pack_kernel, words_for
from graphrewrite.custom_ops.presence import forced
from graphrewrite.ir import Array
from tests.bench.kernels_common import LAYERS, call, chained, in_turns
from tests.bench.q_block_sparse import SHAPES, Layer, float_conv, int8_conv
from tests.bench.roofs import roofs

# Bits to bits and floats to floats against float32 and int8 (kernel size, channels), where there is a must.
MUSTS = {
    "avx512": {
        "bits": {
            **{(3, c): (10.0, 2.9) for c in (64, 128, 256)},
            (3, 512): (13.0, 4.8),
            (1, 64): (5.5, 1.8),
            **{(1, c): (7.0, 1.8) for c in (128, 256, 512)},
        },
        "floats": {(3, 64): (5.5, 1.6), (3, 128): (6.0, 1.6), (3, 256): (6.0, 1.6), (3, 512): (8.0, 1.6)},
    },
    "avx2": {"bits": {(3, c): (2.8, 0.8) for c in (64, 128, 256, 512)}, "floats": {}},
}
_CALLS = 4
PRODUCTS = ((4096, 4096), (1024, 1024), (768, 3072))


def bits_conv(channels: int, kernel: int, number: int, x: str, y: str) -> Layer:
    """Return a layer from bits to bits."""
    rng = np.random.default_rng(number)
    weight = pack_kernel(rng.random((channels, channels, kernel, kernel)) < 0.5)
    return _conv(
        "BinaryConvBits", channels, kernel, [x], y, number, {"w": weight, "t": np.zeros(channels, np.int32)}
    )


def floats_conv(channels: int, kernel: int, number: int, x: str, y: str) -> Layer:
    """Return a layer from floats to floats."""
    rng = np.random.default_rng(number)
    constants = {
        "level": np.zeros(channels, np.float32),
        "w": pack_kernel(rng.random((channels, channels, kernel, kernel)) < 0.5),
        "scale": np.full(channels, 1 / (kernel * channels**0.5), np.float32),
        "bias": np.zeros(channels, np.float32),
    }
    return _conv("BinaryConv", channels, kernel, [x], y, number, constants)


def _conv(
    op: str, channels: int, kernel: int, x: list[str], y: str, number: int, constants: Mapping[str, Array]
) -> Layer:
    names = [f"{name}{number}" for name in constants]
    attributes = custom_ops.find(op).filled({"channels": channels, "pads": [kernel // 2] * 4})
    node = helper.make_node(op, [*x, *names], [y], domain=custom_ops.DOMAIN, **attributes)  # type: ignore[arg-type]
    return node, dict(zip(names, constants.values(), strict=True))


def inputs(channels: int, size: int) -> dict[str, Array]:
    """Return a picture as floats, as bytes and as bits."""
    rng = np.random.default_rng(1)
    return {
        "float": rng.standard_normal((1, channels, size, size)).astype(np.float32),
        "int8": rng.integers(0, 256, (1, channels, size, size)).astype(np.uint8),
        "bits": rng.integers(0, 2**32, (1, size, size, words_for(channels)), dtype=np.uint32),
    }


def layers(isa: str, rounds: int) -> list[str]:
    """Return the rows of the table of convolutions on one instruction set."""
    roof = roofs()["popcount_512" if isa == "avx512" else "popcount_256"]
    rows = [
        "| layer | float32 us | int8 us | bits to bits us | Gop/s (of the roof) | vs float32 | vs int8 "
        "| floats to floats us | vs float32 | vs int8 |",
        "|---" * 10 + "|",
    ]
    for kernel, channels, size in SHAPES:
        x = inputs(channels, size)
        pairs = {
            "float": _pair(x["float"], partial(float_conv, channels, kernel), False),
            "int8": _pair(x["int8"], partial(int8_conv, channels, kernel), False),
        }
        with forced(isa):
            pairs["bits"] = _pair(x["bits"], partial(bits_conv, channels, kernel))
            pairs["floats"] = _pair(x["float"], partial(floats_conv, channels, kernel))
        calls = {f"{name}/{i}": _several(run) for name, pair in pairs.items() for i, run in enumerate(pair)}
        spent = in_turns({**calls, "roof": roof.run}, rounds)
        each = {name: (spent[f"{name}/1"] - spent[f"{name}/0"]) / (LAYERS - 1) / _CALLS for name in pairs}
        speed = 2 * channels * channels * kernel * kernel * size * size / each["bits"]
        share = speed / (roof.operations / spent["roof"])
        cells = [f"{kernel}x{kernel} {channels}@{size}", _us(each["float"]), _us(each["int8"])]
        cells += [_us(each["bits"]), f"{speed * 1e-9:.0f} ({share:.0%})"]
        cells += _ratios(each, "bits", MUSTS[isa]["bits"].get((kernel, channels)))
        cells += [_us(each["floats"]), *_ratios(each, "floats", MUSTS[isa]["floats"].get((kernel, channels)))]
        rows.append("| " + " | ".join(cells) + " |")
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _pair(
    x: Array, layer: Callable[[int, str, str], Layer], kernels: bool = True
) -> Sequence[Callable[[], object]]:
    return [call(chained(x, count, layer), x, kernels) for count in (1, LAYERS)]


def _several(run: Callable[[], object]) -> Callable[[], object]:
    """Return a few calls as one: after all its rivals, the first finds nothing of its own in the caches."""

    def calls() -> None:
        for _ in range(_CALLS):
            run()

    return calls


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}"


def _ratios(each: Mapping[str, float], name: str, musts: tuple[float, float] | None) -> list[str]:
    found = [each[rival] / each[name] for rival in ("float", "int8")]
    return [
        f"**{ratio:.1f}**" if must is not None and ratio < must else f"{ratio:.1f}"
        for ratio, must in zip(found, musts or (None, None), strict=True)
    ]


def products(rounds: int) -> list[str]:
    """Return the rows of the table of matrix products, caches cold: weights come from memory."""
    rows = ["| K x N | rows | float32 us | binary us | ratio |", "|---" * 5 + "|"]
    for inner, outputs in PRODUCTS:
        for batch in (1, 8, 32):
            rng = np.random.default_rng(2)
            x = rng.standard_normal((batch, inner)).astype(np.float32)
            rivals = {
                "float": call(chained(x, 1, partial(_float_product, inner, outputs)), x, False),
                "binary": call(chained(x, 1, partial(_binary_product, inner, outputs)), x),
            }
            spent = in_turns(rivals, rounds, cold=True)
            cells = [f"{inner} x {outputs}", str(batch), *map(_us, spent.values())]
            rows.append("| " + " | ".join([*cells, f"{spent['float'] / spent['binary']:.1f}"]) + " |")
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _float_product(inner: int, outputs: int, number: int, x: str, y: str) -> Layer:
    weight = np.random.default_rng(number).standard_normal((inner, outputs)).astype(np.float32)
    return helper.make_node("MatMul", [x, "w"], [y]), {"w": weight}


def _binary_product(inner: int, outputs: int, number: int, x: str, y: str) -> Layer:
    constants = {
        "level": np.zeros(inner, np.float32),
        "w": pack(np.random.default_rng(number).random((outputs, inner)) < 0.5),
        "scale": np.ones(outputs, np.float32),
        "bias": np.zeros(outputs, np.float32),
    }
    attributes = custom_ops.find("BinaryMatMul").filled({"channels": inner})
    node: onnx.NodeProto = helper.make_node(
        "BinaryMatMul",
        [x, *constants],
        [y],
        domain=custom_ops.DOMAIN,
        **attributes,  # type: ignore[arg-type]
    )
    return node, constants


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["layers", "products"])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--isa", nargs="+", default=["avx512", "avx2"])
    chosen = parser.parse_args()
    if chosen.what != "products":
        for isa in chosen.isa:
            print(f"\n{isa}\n")
            print("\n".join(layers(isa, chosen.rounds)))
    if chosen.what != "layers":
        print("\n".join(["", *products(chosen.rounds)]))


if __name__ == "__main__":
    main()
