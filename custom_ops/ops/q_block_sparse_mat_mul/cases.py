"""Inputs on which all faces of QBlockSparseMatMul must agree: ragged sizes, rows around tile borders, odd ranges."""

from collections.abc import Iterator, Mapping

import numpy as np

from graphrewrite.custom_ops.blocks import ACTIVATIONS
from graphrewrite.custom_ops.quads import pack
from graphrewrite.custom_ops.quads.sample import sparse_weight
from graphrewrite.custom_ops.spec import Case, Value

RTOL = 1e-5  # the integers are exact; scaling and activation round a few times


def cases() -> Iterator[Case]:
    """Yield layers for one row and for many, every activation, odd shapes, then rows of unusual range."""
    for rows in (1, 2, 3, 4, 5, 6, 29, 30, 31, 64):
        yield _case(f"{rows}-rows", (rows, 70), 49, 0.7)
    for number, kind in enumerate(ACTIVATIONS):
        yield _case(kind, (3, 33), 40, 0.5, attributes={"activation": number, "low": -0.25, "high": 0.5})
    yield _case("batch-of-sequences", (2, 3, 5, 24), 16, 0.6)
    yield _case("vector", (24,), 17, 0.6)
    yield _case("empty", (0, 24), 16, 0.6)
    yield _case("dense", (5, 31), 64, 0.0)
    yield _case("all-zero", (2, 31), 64, 1.0)
    yield _case("one-by-one", (1, 1), 1, 0.0)
    yield _case("long", (1, 1501), 96, 0.8)
    yield _case("tall", (130, 200), 72, 0.75)
    yield _case("several-parts", (1, 1024), 1040, 0.0)
    yield _case("several-parts-and-rows", (64, 256), 272, 0.0)
    yield _case("above-zero", (4, 40), 20, 0.5, offset=5.0)
    yield _case("below-zero", (4, 40), 20, 0.5, offset=-5.0)
    yield _case("constant", (4, 40), 20, 0.5, offset=2.5, spread=0.0)
    yield _case("zero", (2, 40), 20, 0.5, spread=0.0)
    yield _case("tiny", (2, 40), 20, 0.5, spread=1e-38)
    yield _case("huge", (2, 40), 20, 0.5, spread=1e36)


def _case(
    name: str,
    shape: tuple[int, ...],
    outputs: int,
    sparsity: float,
    *,
    offset: float = 0.0,
    spread: float = 1.0,
    attributes: Mapping[str, Value] | None = None,
) -> Case:
    rng = np.random.default_rng(len(name) + 31 * outputs)
    blocks, positions = pack(sparse_weight(rng, (outputs, shape[-1]), sparsity))
    inputs = {
        "x": (rng.standard_normal(shape) * spread + offset).astype(np.float32),
        "blocks": blocks,
        "positions": positions,
        "w_scale": (rng.uniform(0.5, 2.0, outputs) / (74 * np.sqrt(shape[-1]))).astype(np.float32),
        "bias": rng.standard_normal(outputs).astype(np.float32),
    }
    return Case(name, inputs, {"in_features": shape[-1], "out_features": outputs, **(attributes or {})}, RTOL)
