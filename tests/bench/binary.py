"""Speed of binary layers beside onnxruntime's float and int8 ones, inside a network.

`python -m tests.bench.binary [layers|products] [--isa avx2]` prints tables for custom_ops/MEASURED.md. A cell is the
ratio to the rival, in bold where it misses its must: what the kernels were planned with, on another machine.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from graphrewrite.custom_ops.binary.pack import pack, pack_kernel, words_for
from graphrewrite.custom_ops.presence import forced
from graphrewrite.ir import Array
from tests.bench.common import command, facts, say, tell
from tests.bench.dense_layers import float_conv, float_product, int8_conv
from tests.bench.kernels_common import (
    CONVOLUTIONS,
    LAYERS,
    MATRICES,
    Layer,
    Maker,
    call,
    chained,
    head,
    in_a_network,
    in_turns,
    options_of,
    ours,
    row,
    told,
)
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


def bits_conv(channels: int, kernel: int, number: int, x: str, y: str) -> Layer:
    """Return a layer from bits to bits."""
    rng = np.random.default_rng(number)
    weight = pack_kernel(rng.random((channels, channels, kernel, kernel)) < 0.5)
    constants = {"w": weight, "t": np.zeros(channels, np.int32)}
    return ours("BinaryConvBits", x, y, number, constants, _square(channels, kernel))


def floats_conv(channels: int, kernel: int, number: int, x: str, y: str) -> Layer:
    """Return a layer from floats to floats."""
    rng = np.random.default_rng(number)
    constants = {
        "level": np.zeros(channels, np.float32),
        "w": pack_kernel(rng.random((channels, channels, kernel, kernel)) < 0.5),
        "scale": np.full(channels, 1 / (kernel * channels**0.5), np.float32),
        "bias": np.zeros(channels, np.float32),
    }
    return ours("BinaryConv", x, y, number, constants, _square(channels, kernel))


def _square(channels: int, kernel: int) -> dict[str, int | Sequence[int]]:
    return {"channels": channels, "pads": [kernel // 2] * 4}


def inputs(channels: int, size: int) -> dict[str, Array]:
    """Return a picture as floats, as bytes and as bits."""
    rng = np.random.default_rng(1)
    return {
        "float": rng.standard_normal((1, channels, size, size)).astype(np.float32),
        "int8": rng.integers(0, 256, (1, channels, size, size)).astype(np.uint8),
        "bits": rng.integers(0, 2**32, (1, size, size, words_for(channels)), dtype=np.uint32),
    }


def layers(isa: str, rounds: int, threads: int) -> list[str]:
    """Return the rows of the table of convolutions on one instruction set."""
    roof = roofs()["popcount_512" if isa == "avx512" else "popcount_256"]
    musts = MUSTS[isa] if threads == 1 else {"bits": {}, "floats": {}}
    ratios = ["vs float32", "vs int8"]
    rows = head(
        ["layer", "float32 us", "int8 us", "bits to bits us", "Gop/s (of the roof)"]
        + [*ratios, "floats to floats us", *ratios]
    )
    for kernel, channels, size in CONVOLUTIONS:
        x = inputs(channels, size)
        pairs = {
            "float": _pair(x["float"], partial(float_conv, channels, kernel), threads),
            "int8": _pair(x["int8"], partial(int8_conv, channels, kernel), threads),
        }
        with forced(isa):
            pairs["bits"] = _pair(x["bits"], partial(bits_conv, channels, kernel), threads)
            pairs["floats"] = _pair(x["float"], partial(floats_conv, channels, kernel), threads)
        calls = {f"{name}/{i}": _several(run) for name, pair in pairs.items() for i, run in enumerate(pair)}
        spent = in_turns({**calls, "roof": roof.run}, rounds, threads=threads)
        each = {name: (spent[f"{name}/1"] - spent[f"{name}/0"]) / (LAYERS - 1) / _CALLS for name in pairs}
        speed = 2 * channels * channels * kernel * kernel * size * size / each["bits"]
        share = speed / (threads * roof.operations / spent["roof"])
        cells = [f"{kernel}x{kernel} {channels}@{size}", _us(each["float"]), _us(each["int8"])]
        cells += [_us(each["bits"]), f"{speed * 1e-9:.0f} ({share:.0%})"]
        cells += _ratios(each, "bits", musts["bits"].get((kernel, channels)))
        cells += [_us(each["floats"]), *_ratios(each, "floats", musts["floats"].get((kernel, channels)))]
        rows.append(row(cells))
        tell(rows[-1])
    return rows


def _pair(x: Array, layer: Maker, threads: int) -> Sequence[Callable[[], object]]:
    return [call(chained(x, count, layer), x, threads) for count in (1, LAYERS)]


def _several(run: Callable[[], object]) -> Callable[[], object]:
    """Return a few calls as one: after all its rivals, the first finds nothing of its own in the caches."""

    def calls() -> None:
        for _ in range(_CALLS):
            run()

    return calls


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}"


def _ratios(each: Mapping[str, float], name: str, musts: tuple[float, float] | None) -> list[str]:
    pairs = zip(("float", "int8"), musts or (0.0, 0.0), strict=True)
    return [told(each[rival] / each[name], must) for rival, must in pairs]


def products(rounds: int, threads: int) -> list[str]:
    """Return the rows of the table of matrix products, caches cold: weights come from memory."""
    rows = head(["K x N", "rows", "float32 us", "binary us", "ratio"])
    for inner, outputs in MATRICES:
        for batch in (1, 8, 32):
            x = np.random.default_rng(2).standard_normal((batch, inner)).astype(np.float32)
            rivals = {
                "float": (x, partial(float_product, inner, outputs)),
                "binary": (x, partial(binary_product, inner, outputs)),
            }
            spent = in_a_network(rivals, rounds, cold=True, threads=threads)
            cells = [f"{inner} x {outputs}", str(batch), *map(_us, spent.values())]
            rows.append(row([*cells, told(spent["float"] / spent["binary"])]))
            tell(rows[-1])
    return rows


def binary_product(inner: int, outputs: int, number: int, x: str, y: str) -> Layer:
    """Return a product of signs from floats to floats."""
    constants = {
        "level": np.zeros(inner, np.float32),
        "w": pack(np.random.default_rng(number).random((outputs, inner)) < 0.5),
        "scale": np.ones(outputs, np.float32),
        "bias": np.zeros(outputs, np.float32),
    }
    return ours("BinaryMatMul", x, y, number, constants, {"channels": inner})


def main() -> None:
    """Print the tables."""
    parser = options_of(__doc__, rounds=21)
    parser.add_argument("what", nargs="?", choices=["layers", "products"])
    parser.add_argument("--isa", nargs="+", default=["avx512"])
    chosen = parser.parse_args()
    say(f"{command()}; {facts()}")
    if chosen.what != "products":
        for isa in chosen.isa:
            say("\n".join(["", isa, "", *layers(isa, chosen.rounds, chosen.threads)]))
    if chosen.what != "layers":
        say("\n".join(["", *products(chosen.rounds, chosen.threads)]))


if __name__ == "__main__":
    main()
