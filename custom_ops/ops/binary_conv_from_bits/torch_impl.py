"""BinaryConvFromBits in torch."""

from collections.abc import Sequence

import torch

from graphrewrite.custom_ops.binary.torch_form import conv_sums, numbers, unpack


def torch_impl(
    x: torch.Tensor,
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
    """Return numbers [N, O, OH, OW] for `x` [N, H, W, words]."""
    sums = conv_sums(
        unpack(x, channels).movedim(-1, 1),
        weight,
        channels=channels,
        group=group,
        strides=strides,
        pads=pads,
        dilations=dilations,
    )
    return numbers(sums, scale, bias, 1)
