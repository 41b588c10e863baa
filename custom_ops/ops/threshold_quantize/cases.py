"""Inputs on which all faces of ThresholdQuantize must agree: every rank, vector borders, equal and odd numbers."""

from collections.abc import Iterator

import numpy as np

from graphrewrite.custom_ops.spec import Case

_SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((1, 3, 8, 8), (3,)),
    ((7,), (1,)),
    ((2, 5), (5, 3)),
    ((1, 33, 17), (15,)),
    ((2, 7, 3, 5), (7, 15)),
    ((1, 1, 67, 61), (3,)),
    ((3, 4, 2, 3, 5), (4, 7)),
    ((1, 40, 129), (40, 3)),
    ((2, 3, 31), (255,)),
    ((2, 0, 3), (3,)),
    ((0, 4, 3), (4, 3)),
    ((1, 2, 0), (2, 1)),
    # Enough comparisons for several threads: all numbers in a row, channels cut in parts, parts of several channels.
    ((2, 1501), (255,)),
    ((1, 2, 1101), (2, 255)),
    ((2, 9, 301), (9, 255)),
)


def cases() -> Iterator[Case]:
    """Yield random tensors of many shapes, numbers that equal thresholds, and odd ones."""
    rng = np.random.default_rng(0)
    for shape, kind in _SHAPES:
        name = "x".join(map(str, shape)) + "-" + "x".join(map(str, kind))
        x, thresholds = (rng.standard_normal(each).astype(np.float32) for each in (shape, kind))
        yield Case(name, {"x": x, "thresholds": thresholds})
    even = np.arange(-2, 2, 0.5).astype(np.float32)
    yield Case("equal-to-thresholds", {"x": np.tile(even, 9).reshape(1, 8, 9), "thresholds": even[1:6]})
    odd = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 3.4e38], np.float32)
    yield Case("odd-numbers", {"x": np.tile(odd, 5).reshape(1, 4, 10), "thresholds": odd[[0, 2, 4, 7]]})
    per_channel = np.stack([odd, odd[::-1]])
    yield Case("odd-thresholds", {"x": np.tile(odd, 8).reshape(2, 2, 16), "thresholds": per_channel})
