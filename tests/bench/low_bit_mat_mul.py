"""Speed of products with weights of few bits beside onnxruntime's own: one thread, cold weights, in a network.

`python tests/bench/low_bit_mat_mul.py [--isa avx2]` prints a table for custom_ops/MEASURED.md. Times are what a layer
adds to a session of five whose weights come from memory; a ratio in bold misses its must.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product

import numpy as np
import onnx
from onnx import helper

from graphrewrite import custom_ops
from graphrewrite.custom_ops.ops.low_bit_mat_mul.pack import OUTPUTS, pack_scales, width
from graphrewrite.custom_ops.presence import forced
from graphrewrite.ir import Array
from tests.bench.kernels_common import LAYERS, abreast, call, in_a_chain, in_turns
from tests.bench.q_block_sparse import float_product, four_bit_product, int8_product

SHAPES = ((4096, 4096), (1024, 1024), (768, 3072))
BATCHES = (1, 2, 4, 8, 32)
FORMS = {
    "2": (2, 0),
    "2/128": (2, 128),
    "2/64": (2, 64),
    "2/32": (2, 32),
    "1": (1, 0),
    "1/64": (1, 64),
    "4/32": (4, 32),
}
# At 4096 x 4096, by batch and form: times fp32, times onnxruntime's 4-bit product.
MUSTS = {
    (1, "2"): (24, 5.2),
    (1, "2/128"): (18, 4.3),
    (1, "2/64"): (18, 4.3),
    (1, "2/32"): (18, 4.3),
    (4, "2"): (12, 4.5),
    (1, "1"): (36, 0),
}
RIVALS: Mapping[str, Callable[..., tuple[onnx.NodeProto, Mapping[str, Array]]]] = {
    "fp32": float_product,
    "4-bit": four_bit_product,
    "int8": int8_product,
}


def low_bit_product(
    inputs: int, outputs: int, bits: int, group: int, number: int, x: str, y: str
) -> tuple[onnx.NodeProto, Mapping[str, Array]]:
    """Return our product with random codes; a `group` of 0 is one scale per output."""
    rng = np.random.default_rng(number)
    filled, blocks = -(-inputs // 16) * 16, -(-outputs // OUTPUTS)
    group = group or filled
    codes = rng.integers(0, 256, (blocks, filled * bits // 8 // width(bits), OUTPUTS, width(bits)), np.uint8)
    values = (
        codes,
        pack_scales(rng.uniform(0.5, 1, (outputs, -(-inputs // group)))),
        np.full(outputs, 0.01, np.float32),
        np.zeros(outputs, np.float32),
    )
    names = [f"{stem}{number}" for stem in ("codes", "scales", "gain", "bias")]
    attributes = {"bits": bits, "group": group, "offset": (1 << bits) - 1, "depth": inputs}
    node = helper.make_node("LowBitMatMul", [x, *names], [y], domain=custom_ops.DOMAIN)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return node, dict(zip(names, values, strict=True))


def spent_in(inputs: int, outputs: int, batch: int, rounds: int, threads: int = 1) -> dict[str, float]:
    """Return the seconds of every form and rival, inside a network."""
    x = np.random.default_rng(1).standard_normal((batch, inputs)).astype(np.float32)
    makers = {name: partial(maker, inputs, outputs) for name, maker in RIVALS.items()}
    makers |= {name: partial(low_bit_product, inputs, outputs, *form) for name, form in FORMS.items()}
    calls = {
        name: [call(abreast(x, n, maker), x, name not in RIVALS, threads) for n in (1, LAYERS)]
        for name, maker in makers.items()
    }
    return in_a_chain(calls, rounds, cold=True)


def read_rate(rounds: int) -> float:
    """Return the bytes a second at which this thread adds up 4 MiB that are in no cache."""
    numbers = np.ones(4 << 17)
    return float(numbers.nbytes / in_turns({"read": numbers.sum}, rounds, cold=True)["read"])


def products(rounds: int, isa: str | None) -> list[str]:
    """Return the table of all shapes and batches with one instruction set."""
    head = [
        "K x N",
        "batch",
        *(f"{name} us" for name in RIVALS),
        *(f"{form}: us, vs fp32 / 4-bit / int8" for form in FORMS),
    ]
    rows = [_row(head), "|---" * len(head) + "|"]
    for (inputs, outputs), batch in product(SHAPES, BATCHES):
        with forced(isa):
            spent = spent_in(inputs, outputs, batch, rounds if batch < 8 else max(3, rounds // 3))
        cells = [f"{inputs} x {outputs}", str(batch), *(f"{spent[name] * 1e6:.0f}" for name in RIVALS)]
        for form in FORMS:
            musts = MUSTS.get((batch, form), (0, 0)) if inputs == outputs == 4096 and isa is None else (0, 0)
            ratios = [spent[name] / spent[form] for name in RIVALS]
            told = [
                f"**{ratio:.1f}**" if ratio < must else f"{ratio:.1f}"
                for ratio, must in zip(ratios, (*musts, 0), strict=True)
            ]
            cells.append(f"{spent[form] * 1e6:.0f}, " + " / ".join(told))
        rows.append(_row(cells))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--isa", help="an instruction set instead of the best")
    chosen = parser.parse_args()
    print("\n".join(products(chosen.rounds, chosen.isa)))
    print(f"\n4 MiB that are in no cache are added up at {read_rate(chosen.rounds) / 1e9:.1f} GB/s.")


if __name__ == "__main__":
    main()
