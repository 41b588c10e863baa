"""QBlockSparseMatMul in torch. The rounding of x passes gradients straight through; steps of weights have none."""

import torch

from graphrewrite.custom_ops.blocks.torch_form import activate
from graphrewrite.custom_ops.quads.torch_form import dense


def torch_impl(
    x: torch.Tensor,
    blocks: torch.Tensor,
    positions: torch.Tensor,
    w_scale: torch.Tensor,
    bias: torch.Tensor,
    *,
    in_features: int,
    out_features: int,
    activation: int,
    low: float,
    high: float,
) -> torch.Tensor:
    """Quantise each row of `x` [..., in], multiply with the weight, scale, activate; return [..., out]."""
    weight = dense(blocks, positions, out_features, in_features).double()
    with torch.no_grad():
        below = (-x.amin(dim=-1, keepdim=True)).clamp(min=0)
        level = (x.amax(dim=-1, keepdim=True).clamp(min=0) + below) / 255
        scale = torch.where(level >= torch.finfo(torch.float32).tiny, level, torch.ones_like(level))
        zero_point = torch.round(below / scale)
        steps = torch.clamp(torch.round(x / scale) + zero_point, 0, 255) - zero_point
    rounded = x / scale + (steps - x / scale).detach()
    sums = rounded.double() @ weight.T
    z = (sums * (scale.double() * w_scale.double())).float() + bias
    return activate(z, activation, low, high)
