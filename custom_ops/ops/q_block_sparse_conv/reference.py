"""QBlockSparseConv, one kernel position at a time, in exact integers; the scaling in float32, as it is defined."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.quads import Quads, unpack
from graphrewrite.custom_ops.window import convolve


def reference(
    x: npt.NDArray[np.uint8],
    x_scale: npt.NDArray[np.float32],
    x_zero_point: npt.NDArray[np.uint8],
    blocks: npt.NDArray[np.int8],
    positions: npt.NDArray[np.int32],
    w_scale: npt.NDArray[np.float32],
    y_scale: npt.NDArray[np.float32],
    y_zero_point: npt.NDArray[np.uint8],
    bias: npt.NDArray[np.int32],
    *,
    in_channels: int,
    out_channels: int,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> npt.NDArray[np.uint8]:
    """Convolve `x` [N, in, H, W] and return [N, out, H', W']; each product and sum of float32 is rounded once."""
    weight = unpack(Quads(blocks, positions), out_channels, in_channels, kernel_shape).astype(np.int64)
    shifted = x.astype(np.int64) - int(x_zero_point)
    sums = convolve(shifted, weight, strides=strides, pads=pads, dilations=dilations)
    sums += bias.astype(np.int64)[:, None, None]
    scale = np.float32(x_scale) * w_scale / np.float32(y_scale)  # [out], float32 at every step
    steps = np.rint(sums.astype(np.float32) * scale[:, None, None]) + np.float32(y_zero_point)
    return np.clip(steps, 0, 255).astype(np.uint8)
