"""LowBitMatMul, in exact integers up to the scales."""

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.ops.low_bit_mat_mul.pack import unpack, unpack_scales

Floats = npt.NDArray[np.float32]


def rounded(x: Floats) -> tuple[npt.NDArray[np.float64], Floats]:
    """Return `x` [..., depth] in whole levels, and what a level of each row is worth [..., 1].

    In float32 throughout: another rounding of the quotient would be another level here and there.
    """
    largest = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(1e-30))
    return np.round(x * (np.float32(127) / largest)).astype(np.float64), largest / np.float32(127)


def reference(
    x: Floats,
    packed: npt.NDArray[np.uint8],
    scales: npt.NDArray[np.float16],
    gain: Floats,
    bias: Floats,
    *,
    bits: int,
    group: int,
    offset: int,
    depth: int,
) -> Floats:
    """Return `x` [..., depth] times the weight, plus `bias`: [..., outputs]."""
    outputs = len(gain)
    levels = 2 * unpack(packed, bits, outputs, depth).astype(np.int64) - offset
    per_input = np.repeat(unpack_scales(scales, outputs).astype(np.float64), group, axis=1)[:, :depth]
    with np.errstate(invalid="ignore", over="ignore"):
        whole, worth = rounded(x)
        product = whole @ (levels * per_input * gain[:, None].astype(np.float64)).T
        return (product * worth + bias).astype(np.float32)
