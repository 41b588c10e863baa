"""Sums, products and powers, element by element."""

import torch

from graphrewrite.bridge.forms import op


@op("Relu")
def relu(x: torch.Tensor) -> torch.Tensor:
    """Return max(x, 0)."""
    return torch.relu(x)


@op("Add")
def add(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return a + b."""
    return a + b
