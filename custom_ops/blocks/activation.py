"""Activations that a kernel applies to its sums before it stores them, by the number that its attribute holds."""

import numpy as np
import numpy.typing as npt

# The number of an activation is its place here. A number, since a function body cannot compare texts.
ACTIVATIONS = ("none", "relu", "clip", "silu", "hardswish")

Floats64 = npt.NDArray[np.float64]


def activate(z: Floats64, activation: int, low: float, high: float) -> Floats64:
    """Return the activation of `z`; `low` and `high` are the limits of `clip`. NaN stays NaN."""
    kind = ACTIVATIONS[activation]
    if kind == "relu":
        return np.maximum(z, 0.0)
    if kind == "clip":
        return np.minimum(np.maximum(z, low), high)
    if kind == "silu":
        return z / (1.0 + np.exp(-np.clip(z, -700.0, 700.0)))
    if kind == "hardswish":
        return z * np.clip(z / 6.0 + 0.5, 0.0, 1.0)
    return z
