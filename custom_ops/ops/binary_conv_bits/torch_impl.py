"""BinaryConvBits in torch."""

from collections.abc import Sequence

import torch

from graphrewrite.custom_ops.binary.torch_form import bits, conv_sums, unpack


def torch_impl(
    x: torch.Tensor,
    weight: torch.Tensor,
    threshold: torch.Tensor,
    *,
    channels: int,
    group: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> torch.Tensor:
    """Return bits [N, OH, OW, ceil(O / 32)] for `x` [N, H, W, words]."""
    sums = conv_sums(
        unpack(x, channels).movedim(-1, 1),
        weight,
        channels=channels,
        group=group,
        strides=strides,
        pads=pads,
        dilations=dilations,
    )
    return bits(sums, threshold, 1)
