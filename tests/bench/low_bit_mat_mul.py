"""Speed of products with weights of few bits beside onnxruntime's own: cold weights, in a network.

`python -m tests.bench.low_bit_mat_mul [--isa avx2]` prints a table for custom_ops/MEASURED.md. Times are what a layer
adds to a session of five whose weights come from memory; a ratio in bold misses its must.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product

import numpy as np

from graphrewrite.custom_ops.ops.low_bit_mat_mul.pack import OUTPUTS, pack_scales, width
from graphrewrite.custom_ops.presence import forced
from tests.bench.common import command, facts, say, tell
from tests.bench.dense_layers import float_product, four_bit_product, int8_product
from tests.bench.kernels_common import (
    MATRICES,
    Layer,
    head,
    in_a_network,
    options_of,
    ours,
    read_rate,
    row,
    told,
    us,
)

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
RIVALS: Mapping[str, Callable[..., Layer]] = {
    "fp32": float_product,
    "4-bit": four_bit_product,
    "int8": int8_product,
}


def low_bit_product(inputs: int, outputs: int, bits: int, group: int, number: int, x: str, y: str) -> Layer:
    """Return our product with random codes; a `group` of 0 is one scale per output."""
    rng = np.random.default_rng(number)
    filled, blocks = -(-inputs // 16) * 16, -(-outputs // OUTPUTS)
    group = group or filled
    codes = rng.integers(0, 256, (blocks, filled * bits // 8 // width(bits), OUTPUTS, width(bits)), np.uint8)
    constants = {
        "codes": codes,
        "scales": pack_scales(rng.uniform(0.5, 1, (outputs, -(-inputs // group)))),
        "gain": np.full(outputs, 0.01, np.float32),
        "bias": np.zeros(outputs, np.float32),
    }
    attributes = {"bits": bits, "group": group, "offset": (1 << bits) - 1, "depth": inputs}
    return ours("LowBitMatMul", x, y, number, constants, attributes)


def spent_in(inputs: int, outputs: int, batch: int, rounds: int, threads: int) -> dict[str, float]:
    """Return the seconds of every form and rival, inside a network."""
    x = np.random.default_rng(1).standard_normal((batch, inputs)).astype(np.float32)
    makers = {name: (x, partial(maker, inputs, outputs)) for name, maker in RIVALS.items()}
    makers |= {name: (x, partial(low_bit_product, inputs, outputs, *form)) for name, form in FORMS.items()}
    return in_a_network(makers, rounds, cold=True, threads=threads)


def products(batches: list[int], rounds: int, threads: int, isa: str | None) -> list[str]:
    """Return the table of all shapes and batches with one instruction set."""
    bars = isa is None and threads == 1
    times = [f"{form}: us, vs fp32 / 4-bit / int8" for form in FORMS]
    rows = head(["K x N", "batch", *(f"{name} us" for name in RIVALS), *times])
    for (inputs, outputs), batch in product(MATRICES, batches):
        with forced(isa):
            spent = spent_in(inputs, outputs, batch, rounds if batch < 8 else max(5, rounds // 3), threads)
        cells = [f"{inputs} x {outputs}", str(batch), *(us(spent[name]) for name in RIVALS)]
        for form in FORMS:
            musts = MUSTS.get((batch, form), (0, 0)) if bars and inputs == outputs == 4096 else (0, 0)
            ratios = [spent[name] / spent[form] for name in RIVALS]
            cells.append(f"{us(spent[form])}, " + " / ".join(map(told, ratios, (*musts, 0))))
        rows.append(row(cells))
        tell(rows[-1])
    return rows


def main() -> None:
    """Print the table."""
    parser = options_of(__doc__, rounds=15)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 32])
    parser.add_argument("--isa", help="an instruction set instead of the best")
    chosen = parser.parse_args()
    say(f"{command()}; {facts()}")
    say("\n".join(["", *products(chosen.batches, chosen.rounds, chosen.threads, chosen.isa)]))
    say(f"\nNumbers in no cache are added up at {read_rate(chosen.threads) / 1e9:.1f} GB/s.")


if __name__ == "__main__":
    main()
