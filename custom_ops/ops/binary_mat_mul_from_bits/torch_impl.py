"""BinaryMatMulFromBits in torch."""

import torch

from graphrewrite.custom_ops.binary.torch_form import mat_mul_sums, numbers, unpack


def torch_impl(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    *,
    channels: int,
) -> torch.Tensor:
    """Return numbers [..., O] for `x` [..., words]."""
    sums = mat_mul_sums(
        unpack(x, channels),
        weight,
        channels=channels,
    )
    return numbers(sums, scale, bias, -1)
