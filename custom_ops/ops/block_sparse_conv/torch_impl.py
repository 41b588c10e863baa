"""BlockSparseConv in torch; the blocks that are there learn, those that are not stay zero."""

import math
from collections.abc import Sequence

import torch

from graphrewrite.custom_ops.blocks.torch_form import activate, unpack


def torch_impl(
    x: torch.Tensor,
    blocks: torch.Tensor,
    positions: torch.Tensor,
    bias: torch.Tensor,
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
) -> torch.Tensor:
    """Convolve `x` [N, in, H, W] with the weight that the blocks make and return [N, out, H', W']."""
    columns = in_channels * math.prod(kernel_shape)
    weight = unpack(blocks, positions, out_channels, columns, kernel_shape)
    top, left, bottom, right = pads
    padded = torch.nn.functional.pad(x, (left, right, top, bottom))
    sums = torch.nn.functional.conv2d(padded, weight, bias, stride=tuple(strides), dilation=tuple(dilations))
    return activate(sums, activation, low, high)
