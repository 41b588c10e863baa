"""The file format in torch, for training what a kernel will run. Imports torch."""

import math
from collections.abc import Sequence

import torch

from graphrewrite.custom_ops.quads.pack import INPUTS, OUTPUTS


def dense(
    blocks: torch.Tensor, positions: torch.Tensor, outputs: int, inputs: int, kernel: Sequence[int] = ()
) -> torch.Tensor:
    """Return the weight [outputs, inputs, *kernel] of which these are the blocks."""
    groups, rows, taps = -(-outputs // OUTPUTS), -(-inputs // INPUTS), math.prod(kernel)
    flat = torch.zeros((groups * rows * taps, OUTPUTS, INPUTS), dtype=blocks.dtype, device=blocks.device)
    flat = flat.index_put((positions.long(),), blocks)
    grid = flat.reshape(groups, rows, taps, OUTPUTS, INPUTS).permute(0, 3, 1, 4, 2)
    whole = grid.reshape(groups * OUTPUTS, rows * INPUTS, taps)[:outputs, :inputs]
    return whole.reshape(outputs, inputs, *kernel)
