"""BinaryMatMulToBits in torch."""

import torch

from graphrewrite.custom_ops.binary.torch_form import bits, mat_mul_sums, signs


def torch_impl(
    x: torch.Tensor,
    x_threshold: torch.Tensor,
    weight: torch.Tensor,
    threshold: torch.Tensor,
    *,
    channels: int,
) -> torch.Tensor:
    """Return bits [..., ceil(O / 32)] for `x` [..., C]."""
    sums = mat_mul_sums(
        signs(x, x_threshold, -1),
        weight,
        channels=channels,
    )
    return bits(sums, threshold, -1)
