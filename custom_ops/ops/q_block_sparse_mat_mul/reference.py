"""QBlockSparseMatMul with exact integers between the steps that are defined in float32."""

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.blocks import activate
from graphrewrite.custom_ops.quads import Quads, unpack

Floats = npt.NDArray[np.float32]


def reference(
    x: Floats,
    blocks: npt.NDArray[np.int8],
    positions: npt.NDArray[np.int32],
    w_scale: Floats,
    bias: Floats,
    *,
    in_features: int,
    out_features: int,
    activation: int,
    low: float,
    high: float,
) -> Floats:
    """Quantise each row of `x` [..., in], multiply with the weight, scale, activate; return [..., out]."""
    weight = unpack(Quads(blocks, positions), out_features, in_features).astype(np.int64)
    zero = np.float32(0)
    below = np.maximum(-x.min(axis=-1, keepdims=True, initial=0), zero)
    level = (np.maximum(x.max(axis=-1, keepdims=True, initial=0), zero) + below) / np.float32(255)
    scale = np.where(level >= np.finfo(np.float32).tiny, level, np.float32(1))
    zero_point = np.rint(below / scale)
    steps = np.clip(np.rint(x / scale) + zero_point, 0, 255).astype(np.int64)
    sums = (steps - zero_point.astype(np.int64)) @ weight.T
    z = sums * (scale.astype(np.float64) * w_scale) + bias
    return activate(z, activation, low, high).astype(np.float32)
