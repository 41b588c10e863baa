"""Inputs on which all faces of HadamardLinear must agree: sizes of one to three passes, ragged widths."""

from collections.abc import Iterator

import numpy as np

from graphrewrite.custom_ops.spec import Case

# Leading sizes, width in, size, width out.
_SHAPES: tuple[tuple[tuple[int, ...], int, int, int], ...] = (
    ((1,), 1, 1, 1),
    ((2,), 2, 2, 2),
    ((3,), 3, 4, 4),
    ((2, 2), 8, 8, 5),
    ((1,), 16, 16, 16),
    ((), 17, 32, 31),
    ((5,), 64, 64, 64),
    ((0,), 16, 16, 16),
    ((2, 0), 7, 8, 8),
    ((3,), 100, 128, 60),
    ((2, 3), 256, 256, 256),
    ((17,), 500, 512, 512),
    ((1,), 1024, 1024, 1000),
    ((70,), 1024, 1024, 1000),  # rows for several parts
    ((4,), 2048, 2048, 2048),
    ((3,), 4096, 4096, 4096),
    ((2,), 8192, 8192, 8192),
    ((1,), 100_000, 131_072, 131_072),
)


def cases() -> Iterator[Case]:
    """Yield random layers, one case per shape."""
    rng = np.random.default_rng(0)
    for lead, width, size, out in _SHAPES:
        name = f"{'x'.join(str(n) for n in (*lead, width))}-{size}-{out}"
        sizes = {"x": (*lead, width), "before": (width,), "middle": (size,), "after": (out,), "bias": (out,)}
        values = {port: rng.standard_normal(shape).astype(np.float32) for port, shape in sizes.items()}
        yield Case(name, {**values, "permutation": rng.permutation(size)}, rtol=2e-6)
