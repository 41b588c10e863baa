"""BinaryMatMul in torch."""

import torch

from graphrewrite.custom_ops.binary.torch_form import mat_mul_sums, numbers, signs


def torch_impl(
    x: torch.Tensor,
    x_threshold: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    *,
    channels: int,
) -> torch.Tensor:
    """Return numbers [..., O] for `x` [..., C]."""
    sums = mat_mul_sums(
        signs(x, x_threshold, -1),
        weight,
        channels=channels,
    )
    return numbers(sums, scale, bias, -1)
