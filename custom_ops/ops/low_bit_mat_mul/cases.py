"""Inputs on which all faces of LowBitMatMul must agree: ragged sizes, every tile of rows, groups, odd rows."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.ops.low_bit_mat_mul.pack import pack, pack_scales
from graphrewrite.custom_ops.spec import Array, Case

# bits, group, batch, inputs, outputs
_CASES = (
    (2, 16, (1,), 1, 1),
    (2, 16, (2,), 15, 31),
    (2, 32, (3,), 16, 32),
    (2, 48, (4,), 17, 33),
    (2, 512, (1,), 500, 70),
    (2, 512, (15,), 500, 70),
    (2, 64, (2, 3), 200, 64),
    (2, 32, (1,), 1000, 257),
    (2, 1024, (), 1000, 40),
    (2, 128, (0,), 100, 40),
    (2, 128, (1,), 3000, 1500),  # several parts
    (2, 128, (140,), 1000, 257),  # and rows for several parts
    (1, 16, (1,), 1, 1),
    (1, 16, (1,), 47, 31),
    (1, 1040, (1,), 1030, 600),
    (1, 32, (2,), 300, 130),
    (1, 320, (9,), 700, 65),
    (1, 64, (3,), 200, 290),
    (4, 16, (1,), 9, 1),
    (4, 32, (3,), 100, 33),
    (4, 304, (1,), 300, 96),
    (4, 304, (11,), 300, 96),
    (4, 64, (7,), 200, 64),
)


def made(bits: int, group: int, batch: tuple[int, ...], inputs: int, outputs: int, seed: int) -> Case:
    """Return a case with random codes and numbers whose size differs from row to row."""
    rng = np.random.default_rng(seed)
    scales = rng.uniform(0.5, 1, (outputs, -(-inputs // group)))
    x = rng.standard_normal((*batch, inputs)) * rng.uniform(0.1, 10, (*batch, 1)) + 0.3
    tensors: dict[str, Array] = {
        "x": x.astype(np.float32),
        "packed": pack(rng.integers(0, 1 << bits, (outputs, inputs), dtype=np.uint8), bits),
        "scales": pack_scales(scales),
        "gain": rng.uniform(0.01, 0.1, outputs).astype(np.float32),
        "bias": rng.standard_normal(outputs).astype(np.float32),
    }
    shape = "x".join(map(str, (*batch, inputs, outputs)))
    attributes = {"bits": bits, "group": group, "offset": (1 << bits) - 1, "depth": inputs}
    return Case(f"{bits}-bit-{shape}-by-{group}", tensors, attributes, rtol=1e-5)


def cases() -> Iterator[Case]:
    """Yield layers of all widths, three levels instead of four, and rows that are hard to scale."""
    for seed, (bits, group, batch, inputs, outputs) in enumerate(_CASES):
        yield made(bits, group, batch, inputs, outputs, seed)
    three = made(2, 64, (5,), 100, 50, 100)
    yield Case("three-levels", three.inputs, {**three.attributes, "offset": 2}, rtol=1e-5)
    row = made(2, 64, (1,), 64, 40, 101)
    x: npt.NDArray[np.float32] = np.array(row.inputs["x"], np.float32)
    at = np.arange(64)
    rows = {
        "zero": 0 * x,
        "tiny": 1e-38 * x,
        "huge": 1e30 * x,
        "halfway": np.where(at % 2, 63.5, 127) * np.sign(x),  # 63.5 levels: the even one is 64
        "equal": 0 * x - 7,
        "nan": np.where(at == 13, np.nan, x),
        "infinite": np.where(at == 60, -np.inf, x),
    }
    for name, other in rows.items():
        yield Case(f"{name}-row", {**row.inputs, "x": other.astype(np.float32)}, row.attributes, rtol=1e-5)
