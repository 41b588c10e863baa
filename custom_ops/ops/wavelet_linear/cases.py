"""Inputs on which all faces of WaveletLinear must agree: odd lengths and filters, many levels, ragged widths."""

from collections.abc import Iterator

import numpy as np

from graphrewrite.custom_ops.spec import Case

# Leading sizes, width in, size, width out, taps, levels.
_SHAPES: tuple[tuple[tuple[int, ...], int, int, int, int, int], ...] = (
    ((1,), 1, 1, 1, 2, 1),
    ((2,), 2, 3, 3, 2, 2),
    ((3,), 15, 15, 15, 4, 2),
    ((2, 3), 16, 16, 16, 2, 4),
    ((2,), 17, 17, 17, 6, 3),
    ((), 31, 33, 32, 8, 3),
    ((0,), 16, 16, 16, 4, 2),
    ((2, 0), 5, 9, 7, 6, 1),
    ((3,), 37, 37, 37, 6, 4),
    ((4,), 63, 64, 60, 3, 4),
    ((2,), 100, 101, 99, 5, 4),
    ((2,), 33, 33, 33, 3, 9),
    ((1,), 70, 70, 70, 12, 2),
    ((1,), 20, 20, 20, 31, 3),
    ((17,), 512, 512, 512, 6, 4),
    ((70,), 512, 512, 512, 4, 3),  # rows for several parts
    ((5,), 1000, 1024, 1023, 4, 5),
    ((3,), 4096, 4096, 4096, 8, 7),
    ((1,), 70_000, 70_001, 70_000, 4, 3),
)


def cases() -> Iterator[Case]:
    """Yield random layers, one case per shape."""
    rng = np.random.default_rng(0)
    for lead, width, size, out, taps, levels in _SHAPES:
        name = f"{'x'.join(str(n) for n in (*lead, width))}-{size}-{out}-taps{taps}-levels{levels}"
        count = coefficients(size, taps, levels)
        sizes = {"x": (*lead, width), "before": (width,), "middle": (count,), "after": (out,), "bias": (out,)}
        values = {port: rng.standard_normal(shape).astype(np.float32) for port, shape in sizes.items()}
        # Filters of length one neither blow the deep levels up nor let them vanish.
        for port in ("analysis", "synthesis"):
            filters = rng.standard_normal((2, taps))
            values[port] = (filters / np.linalg.norm(filters, axis=1, keepdims=True)).astype(np.float32)
        yield Case(
            name,
            {**values, "permutation": rng.permutation(count)},
            {"size": size, "levels": levels},
            rtol=2e-6,
        )


def coefficients(size: int, taps: int, levels: int) -> int:
    """Return how many coefficients the analysis of `size` values makes."""
    total = 0
    for _ in range(levels):
        size = (size + taps - 1) // 2
        total += size
    return total + size
