"""Inputs on which all faces of PackSigns must agree: word borders, vector borders, every rank, odd numbers."""

from collections.abc import Iterator

import numpy as np

from graphrewrite.custom_ops.spec import Case

_SHAPES = (
    (1, 1, 1),
    (1, 31, 3),
    (1, 32, 16, 16),
    (2, 33, 5, 7),
    (1, 64, 17),
    (1, 100, 15),
    (3, 7, 2, 3, 5),
    (1, 128, 31, 33),
    (2, 5),
    (0, 4, 3),
    (1, 40, 0),
    (2, 0, 3),
)


def cases() -> Iterator[Case]:
    """Yield random tensors of many shapes, and one with every number whose sign is a matter of definition."""
    rng = np.random.default_rng(0)
    for shape in _SHAPES:
        name = "x".join(str(size) for size in shape)
        yield Case(name, {"x": rng.standard_normal(shape).astype(np.float32)})
    odd = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, -np.nan]
    yield Case("odd-numbers", {"x": np.tile(np.array(odd, np.float32), 12).reshape(1, 6, 16)})
