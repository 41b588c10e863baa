"""BlockSparseMatMul in torch; the blocks that are there learn, those that are not stay zero."""

import torch

from graphrewrite.custom_ops.blocks.torch_form import activate, unpack


def torch_impl(
    x: torch.Tensor,
    blocks: torch.Tensor,
    positions: torch.Tensor,
    bias: torch.Tensor,
    *,
    in_features: int,
    out_features: int,
    activation: int,
    low: float,
    high: float,
) -> torch.Tensor:
    """Multiply `x` [..., in] with the weight that the blocks make and return [..., out]."""
    weight = unpack(blocks, positions, out_features, in_features)
    return activate(torch.nn.functional.linear(x, weight, bias), activation, low, high)
