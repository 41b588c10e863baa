"""Inputs on which all faces of BlockSparseConv must agree: every width and kernel, strides, borders, ragged sizes."""

from collections.abc import Iterator

import numpy as np

from graphrewrite.custom_ops.blocks import ACTIVATIONS, WIDTHS, pack
from graphrewrite.custom_ops.blocks.sample import sparse_weight
from graphrewrite.custom_ops.spec import Case, Value

RTOL = 1e-5  # sums of a few hundred products in another order


def cases() -> Iterator[Case]:
    """Yield layers of every width, then geometries, then every activation."""
    for width in WIDTHS:
        yield _case(f"1x{width}-3x3", (2, 9, 10, 11), 2 * width + 3, (3, 3), width, 0.7, pads=[1, 1, 1, 1])
        yield _case(f"1x{width}-1x1", (1, 20, 9, 13), 2 * width, (1, 1), width, 0.6)
        yield _case(f"1x{width}-7x7", (1, 24, 7, 7), 2 * width, (3, 3), width, 0.75, pads=[1, 1, 1, 1])
    yield _case("1x1-tiny", (1, 6, 1, 1), 9, (1, 1), 8, 0.3)
    yield _case("1x1-one-lane-less", (1, 6, 3, 5), 9, (1, 1), 8, 0.3)
    yield _case("1x1-one-vector", (1, 6, 4, 4), 9, (1, 1), 8, 0.3)
    yield _case("1x1-one-lane-more", (3, 6, 1, 17), 9, (1, 1), 8, 0.3)
    yield _case("1x1-padded", (1, 5, 4, 4), 8, (1, 1), 8, 0.3, pads=[1, 2, 0, 1])
    yield _case("1x1-stride", (2, 5, 9, 8), 8, (1, 1), 8, 0.3, strides=[2, 2])
    yield _case("3x3-stride", (1, 7, 15, 16), 16, (3, 3), 8, 0.5, pads=[1, 1, 1, 1], strides=[2, 2])
    yield _case("3x3-uneven-strides", (1, 7, 12, 13), 16, (3, 3), 8, 0.5, pads=[1, 0, 0, 2], strides=[1, 3])
    yield _case("3x3-dilated", (1, 7, 15, 16), 16, (3, 3), 8, 0.5, pads=[2, 2, 2, 2], dilations=[2, 2])
    yield _case(
        "3x3-dilated-stride",
        (1, 7, 15, 16),
        16,
        (3, 3),
        8,
        0.5,
        pads=[3, 3, 3, 3],
        dilations=[3, 2],
        strides=[2, 3],
    )
    yield _case("3x3-no-pads", (1, 7, 6, 5), 16, (3, 3), 8, 0.5)
    yield _case("5x2", (2, 4, 9, 9), 12, (5, 2), 4, 0.5, pads=[2, 1, 2, 0])
    yield _case("1x7", (1, 4, 6, 20), 12, (1, 7), 8, 0.5, pads=[0, 3, 0, 3])
    yield _case("7x7-stride", (1, 3, 23, 23), 24, (7, 7), 8, 0.5, pads=[3, 3, 3, 3], strides=[2, 2])
    yield _case("wide-pads", (1, 3, 2, 2), 8, (3, 3), 8, 0.2, pads=[4, 5, 6, 3])
    yield _case("kernel-of-all", (1, 6, 4, 5), 16, (4, 5), 8, 0.5)
    yield _case("line", (1, 6, 1, 40), 16, (1, 3), 16, 0.5, pads=[0, 1, 0, 1])
    yield _case("bands", (1, 64, 40, 48), 16, (3, 3), 8, 0.9, pads=[1, 1, 1, 1])
    yield _case("empty-batch", (0, 4, 5, 5), 8, (3, 3), 8, 0.5, pads=[1, 1, 1, 1])
    yield _case("dense", (1, 5, 8, 8), 32, (3, 3), 32, 0.0, pads=[1, 1, 1, 1])
    yield _case("all-zero", (1, 5, 8, 8), 32, (3, 3), 16, 1.0, pads=[1, 1, 1, 1])
    for number, kind in enumerate(ACTIVATIONS):
        limits = {"low": -0.25, "high": 0.5} if kind == "clip" else {}
        yield _case(kind, (1, 8, 7, 9), 13, (3, 3), 8, 0.5, pads=[1, 1, 1, 1], activation=number, **limits)


def _case(
    name: str,
    shape: tuple[int, int, int, int],
    outputs: int,
    kernel: tuple[int, int],
    width: int,
    sparsity: float,
    **attributes: Value,
) -> Case:
    rng = np.random.default_rng(len(name) + 31 * outputs)
    weight = sparse_weight(rng, (outputs, shape[1], *kernel), width, sparsity)
    packed = pack(weight, width)
    inputs = {
        "x": rng.standard_normal(shape).astype(np.float32),
        "blocks": packed.blocks,
        "positions": packed.positions,
        "bias": rng.standard_normal(outputs).astype(np.float32),
    }
    sizes: dict[str, Value] = {"in_channels": shape[1], "out_channels": outputs, "kernel_shape": list(kernel)}
    return Case(name, inputs, {**sizes, **attributes}, RTOL)
