"""QBlockSparseConv, one kernel position at a time, in exact integers; the scaling in float32, as it is defined."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.quads import Quads, unpack


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
    top, left, bottom, right = pads
    shifted = x.astype(np.int64) - int(x_zero_point)
    padded = np.pad(shifted, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel_shape, strict=True)]
    rows, columns = ((padded.shape[2 + i] - reach[i]) // strides[i] + 1 for i in (0, 1))
    sums = np.zeros((len(x), out_channels, rows, columns), np.int64) + bias.astype(np.int64)[:, None, None]
    for row in range(kernel_shape[0]):
        for column in range(kernel_shape[1]):
            down, across = row * dilations[0], column * dilations[1]
            seen = padded[
                :,
                :,
                down : down + (rows - 1) * strides[0] + 1 : strides[0],
                across : across + (columns - 1) * strides[1] + 1 : strides[1],
            ]
            sums += np.einsum("nchw,oc->nohw", seen, weight[:, :, row, column])
    scale = np.float32(x_scale) * w_scale / np.float32(y_scale)  # [out], float32 at every step
    steps = np.rint(sums.astype(np.float32) * scale[:, None, None]) + np.float32(y_zero_point)
    return np.clip(steps, 0, 255).astype(np.uint8)
