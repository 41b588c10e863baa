"""BinaryConv in torch."""

from collections.abc import Sequence

import torch

from graphrewrite.custom_ops.binary.torch_form import conv_sums, numbers, signs


def torch_impl(
    x: torch.Tensor,
    x_threshold: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    *,
    channels: int,
    group: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> torch.Tensor:
    """Return numbers [N, O, OH, OW] for `x` [N, C, H, W]."""
    sums = conv_sums(
        signs(x, x_threshold, 1),
        weight,
        channels=channels,
        group=group,
        strides=strides,
        pads=pads,
        dilations=dilations,
    )
    return numbers(sums, scale, bias, 1)
