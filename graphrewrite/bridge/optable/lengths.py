"""Vectors scaled to length one."""

import torch

from graphrewrite.bridge.forms import op


@op("LpNormalization")
def lp_normalization(x: torch.Tensor, *, axis: int = -1, p: int = 2) -> torch.Tensor:
    """Return x over its length along an axis; a vector of zeros stays."""
    length = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return x / torch.where(length == 0, 1, length)
