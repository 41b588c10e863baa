"""How close is equal: one place for the numbers that the oracles compare with."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

# float32, sums in another order: largest difference over largest value of the output.
FLOAT32 = 1e-5
# Removing what is zero anyway changes nothing but the order of a few sums.
UNCHANGED = 1e-6


def relative(got: Array, want: Array) -> float:
    """Return the largest difference over the largest value expected; infinite where shapes or non-numbers differ."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return float("inf")
    if want.size == 0:
        return 0.0
    if want.dtype.kind not in "fc":
        return float((got != want).mean())
    a, b = got.astype(np.float64), want.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if not np.isfinite(b[~same]).all() or not np.isfinite(a[~same]).all():
        return float("inf")
    finite = np.abs(b[np.isfinite(b)])
    scale = float(finite.max()) if finite.size else 0.0
    difference = float(np.abs(a - b)[~same].max()) if not same.all() else 0.0
    return difference / scale if scale else (0.0 if difference == 0 else float("inf"))


def largest(got: Mapping[str, Array], want: Mapping[str, Array]) -> float:
    """Return the largest `relative` error over all outputs."""
    if set(got) != set(want):
        return float("inf")
    return max((relative(got[name], want[name]) for name in want), default=0.0)
