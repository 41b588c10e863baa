"""The file format and the activations in torch, for training what a kernel will run. Imports torch."""

from collections.abc import Sequence

import torch

from graphrewrite.custom_ops.blocks.activation import ACTIVATIONS


def unpack(
    blocks: torch.Tensor, positions: torch.Tensor, outputs: int, columns: int, kernel: Sequence[int] = ()
) -> torch.Tensor:
    """Return the weight [outputs, inputs, *kernel]; `columns` is inputs x kernel positions."""
    width = blocks.shape[1]
    groups = -(-outputs // width)
    flat = torch.zeros(groups * columns, width, dtype=blocks.dtype, device=blocks.device)
    flat = flat.index_copy(0, positions.long(), blocks)
    whole = flat.reshape(groups, columns, width).transpose(1, 2).reshape(groups * width, columns)
    return whole[:outputs].reshape(outputs, -1, *kernel)


def activate(z: torch.Tensor, activation: int, low: float, high: float) -> torch.Tensor:
    """Return the activation of `z`; `low` and `high` are the limits of `clip`."""
    kind = ACTIVATIONS[activation]
    if kind == "relu":
        return torch.relu(z)
    if kind == "clip":
        return torch.clamp(z, low, high)
    if kind == "silu":
        return torch.nn.functional.silu(z)
    if kind == "hardswish":
        return torch.nn.functional.hardswish(z)
    return z
