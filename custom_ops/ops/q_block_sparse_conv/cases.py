"""Inputs on which all faces of QBlockSparseConv must agree: borders of blocks, tiles, rows and vectors."""

from collections.abc import Iterator, Sequence

import numpy as np

from graphrewrite.custom_ops.quads import pack
from graphrewrite.custom_ops.quads.sample import sparse_weight
from graphrewrite.custom_ops.spec import Case


def case(
    name: str,
    x: Sequence[int],
    outputs: int,
    kernel: Sequence[int],
    sparsity: float = 0.6,
    *,
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    x_zero_point: int = 113,
    y_zero_point: int = 97,
    seed: int = 0,
) -> Case:
    """Return a random layer over an input of shape `x` whose outputs fill the range of a byte and a bit more."""
    rng = np.random.default_rng(seed)
    weight = sparse_weight(rng, (outputs, x[1], *kernel), sparsity)
    live = np.abs(weight.astype(np.int64)).reshape(outputs, -1).sum(axis=1)
    w_scale = (rng.uniform(0.5, 2.0, outputs) / np.maximum(np.sqrt(live) * 8, 1)).astype(np.float32)
    blocks, positions = pack(weight)
    return Case(
        name,
        {
            "x": rng.integers(0, 256, tuple(x)).astype(np.uint8),
            "x_scale": np.array(0.05, np.float32),
            "x_zero_point": np.array(x_zero_point, np.uint8),
            "blocks": blocks,
            "positions": positions,
            "w_scale": w_scale,
            "y_scale": np.array(0.11, np.float32),
            "y_zero_point": np.array(y_zero_point, np.uint8),
            "bias": rng.integers(-2000, 2000, outputs).astype(np.int32),
        },
        {
            "in_channels": x[1],
            "out_channels": outputs,
            "kernel_shape": list(kernel),
            "strides": list(strides),
            "pads": list(pads),
            "dilations": list(dilations),
        },
    )


def cases() -> Iterator[Case]:
    """Yield layers of every kind the kernel treats differently."""
    same = (1, 1, 1, 1)
    yield case("3x3", (1, 8, 9, 11), 16, (3, 3), pads=same)
    yield case("one-of-everything", (1, 1, 1, 1), 1, (1, 1), 0.0)
    yield case("ragged-channels", (2, 5, 6, 7), 19, (3, 3), pads=same)
    yield case("dense", (1, 12, 7, 7), 32, (3, 3), 0.0, pads=same)
    yield case("nothing-left", (1, 8, 5, 5), 16, (3, 3), 1.0, pads=same)
    yield case("pointwise", (2, 16, 5, 13), 33, (1, 1))
    yield case("pointwise-long", (1, 4, 23, 29), 16, (1, 1))
    yield case("pointwise-stepped", (1, 6, 9, 9), 16, (1, 1), strides=(2, 2))
    for width in (14, 28, 29, 30, 31, 56):
        yield case(f"width-{width}", (1, 8, 5, width), 16, (3, 3), pads=same)
    yield case("stepped", (1, 8, 15, 17), 20, (3, 3), strides=(2, 2), pads=same)
    yield case("stepped-unevenly", (1, 4, 13, 16), 16, (5, 3), strides=(3, 2), pads=(2, 0, 1, 3))
    yield case("dilated", (1, 8, 12, 11), 16, (3, 3), dilations=(2, 3), pads=(2, 3, 2, 3))
    yield case(
        "dilated-and-stepped", (1, 8, 14, 15), 16, (3, 3), dilations=(2, 3), strides=(2, 2), pads=(1, 2, 3, 0)
    )
    yield case("borders-of-their-own", (1, 4, 6, 5), 16, (3, 2), pads=(0, 2, 3, 1))
    yield case("border-wider-than-kernel", (1, 4, 3, 3), 16, (2, 2), pads=(4, 3, 2, 5))
    yield case("kernel-as-large-as-picture", (3, 8, 6, 7), 16, (6, 7))
    yield case("one-row", (1, 8, 1, 40), 16, (1, 3), pads=(0, 1, 0, 1))
    yield case("relu", (1, 8, 9, 9), 16, (3, 3), pads=same, x_zero_point=0, y_zero_point=0)
    yield case("highest-zero-points", (1, 8, 9, 9), 16, (3, 3), pads=same, x_zero_point=255, y_zero_point=255)
    yield case("several-bands", (1, 64, 40, 60), 16, (3, 3), 0.8, pads=same)
    yield case("many-pictures", (9, 8, 9, 10), 32, (3, 3), pads=same)
    yield case("several-parts", (1, 64, 14, 14), 80, (3, 3), 0.4, pads=same)
    yield case("no-picture", (0, 8, 5, 5), 16, (3, 3), pads=same)
