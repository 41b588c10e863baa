"""BlockSparseConv by its dense weight, one kernel position at a time, in float64."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.blocks import Blocks, activate, unpack

Floats = npt.NDArray[np.float32]


def reference(
    x: Floats,
    blocks: Floats,
    positions: npt.NDArray[np.int32],
    bias: Floats,
    *,
    in_channels: int,
    out_channels: int,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    activation: int,
    low: float,
    high: float,
) -> Floats:
    """Convolve `x` [N, in, H, W] with the weight that the blocks make and return [N, out, H', W']."""
    weight = unpack(Blocks(blocks, positions), out_channels, in_channels, kernel_shape).astype(np.float64)
    top, left, bottom, right = pads
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel_shape, strict=True)]
    rows, columns = ((padded.shape[2 + i] - reach[i]) // strides[i] + 1 for i in (0, 1))
    sums = np.zeros((len(x), out_channels, rows, columns)) + bias.astype(np.float64)[:, None, None]
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
    return activate(sums, activation, low, high).astype(np.float32)
