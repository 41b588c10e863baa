"""Inputs on which all faces of BlockSparseMatMul must agree: every width, ragged sizes, rows around vector borders."""

from collections.abc import Iterator

import numpy as np

from graphrewrite.custom_ops.blocks import ACTIVATIONS, WIDTHS, pack
from graphrewrite.custom_ops.blocks.sample import sparse_weight
from graphrewrite.custom_ops.spec import Case, Value

RTOL = 1e-5  # sums of a few hundred products in another order


def cases() -> Iterator[Case]:
    """Yield layers of every width on one row and on many, then every activation, then odd shapes."""
    for width in WIDTHS:
        for rows in (1, 2, 7, 16, 49):
            yield _case(f"1x{width}-{rows}-rows", (rows, 70), 3 * width + 1, width, 0.7)
    for number, kind in enumerate(ACTIVATIONS):
        limits = {"low": -0.25, "high": 0.5} if kind == "clip" else {}
        yield _case(kind, (3, 33), 40, 8, 0.5, activation=number, **limits)
        yield _case(f"{kind}-one-row", (1, 33), 40, 16, 0.5, activation=number, **limits)
    yield _case("batch-of-sequences", (2, 3, 5, 24), 16, 4, 0.6)
    yield _case("vector", (24,), 17, 8, 0.6)
    yield _case("empty", (0, 24), 16, 8, 0.6)
    yield _case("dense", (5, 31), 64, 32, 0.0)
    yield _case("all-zero", (2, 31), 64, 16, 1.0)
    yield _case("one-by-one", (1, 1), 1, 1, 0.0)
    yield _case("long", (1, 1500), 96, 32, 0.8)
    yield _case("tall", (130, 200), 72, 8, 0.75)
    yield _case("several-parts", (1, 1024), 1500, 16, 0.5)
    yield _case("several-parts-and-rows", (130, 512), 700, 8, 0.5)
    yield _case("turned-in-strips", (2100, 512), 24, 8, 0.5)


def _case(
    name: str, shape: tuple[int, ...], outputs: int, width: int, sparsity: float, **attributes: Value
) -> Case:
    rng = np.random.default_rng(len(name) + 31 * outputs)
    weight = sparse_weight(rng, (outputs, shape[-1]), width, sparsity)
    packed = pack(weight, width)
    inputs = {
        "x": rng.standard_normal(shape).astype(np.float32),
        "blocks": packed.blocks,
        "positions": packed.positions,
        "bias": rng.standard_normal(outputs).astype(np.float32),
    }
    return Case(name, inputs, {"in_features": shape[-1], "out_features": outputs, **attributes}, RTOL)
