"""QBlockSparseConv in torch. Steps carry no gradient: training keeps floats until it is over."""

from collections.abc import Sequence

import torch

from graphrewrite.custom_ops.quads.torch_form import dense


def torch_impl(
    x: torch.Tensor,
    x_scale: torch.Tensor,
    x_zero_point: torch.Tensor,
    blocks: torch.Tensor,
    positions: torch.Tensor,
    w_scale: torch.Tensor,
    y_scale: torch.Tensor,
    y_zero_point: torch.Tensor,
    bias: torch.Tensor,
    *,
    in_channels: int,
    out_channels: int,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> torch.Tensor:
    """Convolve `x` [N, in, H, W] and return [N, out, H', W']. Sums are float64, which holds them exactly."""
    weight = dense(blocks, positions, out_channels, in_channels, kernel_shape).double()
    top, left, bottom, right = pads
    padded = torch.nn.functional.pad(x.double() - x_zero_point.double(), (left, right, top, bottom))
    sums = torch.nn.functional.conv2d(
        padded, weight, bias.double(), stride=list(strides), dilation=list(dilations)
    )
    scale = x_scale * w_scale / y_scale  # [out]
    steps = torch.round(sums.float() * scale[:, None, None]) + y_zero_point.float()
    return steps.clamp(0, 255).to(torch.uint8)
