"""BinaryMatMulBits in torch."""

import torch

from graphrewrite.custom_ops.binary.torch_form import bits, mat_mul_sums, unpack


def torch_impl(
    x: torch.Tensor,
    weight: torch.Tensor,
    threshold: torch.Tensor,
    *,
    channels: int,
) -> torch.Tensor:
    """Return bits [..., ceil(O / 32)] for `x` [..., words]."""
    sums = mat_mul_sums(
        unpack(x, channels),
        weight,
        channels=channels,
    )
    return bits(sums, threshold, -1)
