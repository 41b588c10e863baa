"""BlockSparseConv by its dense weight, one kernel position at a time, in float64."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.blocks import Blocks, activate, unpack
from graphrewrite.custom_ops.window import convolve

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
    sums = convolve(x.astype(np.float64), weight, strides=strides, pads=pads, dilations=dilations)
    sums += bias.astype(np.float64)[:, None, None]
    return activate(sums, activation, low, high).astype(np.float32)
