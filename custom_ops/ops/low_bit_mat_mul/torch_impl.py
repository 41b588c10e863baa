"""LowBitMatMul in torch: gradients flow to x through the rounding, to gain and bias; codes and scales have none."""

import torch

from graphrewrite.custom_ops.ops.low_bit_mat_mul.pack import OUTPUTS


def torch_impl(
    x: torch.Tensor,
    packed: torch.Tensor,
    scales: torch.Tensor,
    gain: torch.Tensor,
    bias: torch.Tensor,
    *,
    bits: int,
    group: int,
    offset: int,
    depth: int,
) -> torch.Tensor:
    """Return `x` [..., depth] times the weight, plus `bias`: [..., outputs]."""
    outputs, rows = len(gain), len(packed) * OUTPUTS
    shifts = torch.arange(0, 8, bits, device=packed.device)[:, None]
    codes = (packed.long()[..., None, :] >> shifts) & ((1 << bits) - 1)
    levels = 2 * codes.permute(0, 2, 1, 3, 4).reshape(rows, -1)[:outputs, :depth] - offset
    per_group = scales.float().permute(0, 2, 1).reshape(rows, -1)[:outputs]
    weight = levels * per_group.repeat_interleave(group, dim=1)[:, :depth] * gain[:, None]
    largest = x.detach().abs().amax(dim=-1, keepdim=True).clamp(min=1e-30)
    in_levels = x * (127 / largest)
    whole = (
        in_levels + (torch.round(in_levels) - in_levels).detach()
    )  # straight through: the slope of rounding is 1
    return whole @ weight.T * (largest / 127) + bias
