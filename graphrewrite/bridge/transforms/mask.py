"""Zeros that stay: a pruned weight is trained without its zeros coming back."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Lowered, transforms
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array


@transforms.register("mask")
@dataclass(frozen=True)
class Mask:
    """The zeros a weight has when this is attached stay exactly zero, whatever an optimiser adds to them.

    They get no gradient, and momentum, decay and averages of what lies beneath are never seen.
    """

    tolerance: float = 0.0

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the module that hides what grows where a zero was."""
        if weight is None:
            raise InvalidConfig(
                "Mask was put behind an activation, which has no zeros of its own; expected the name of a weight; "
                "correct it"
            )
        return Kept(weight != 0)

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the weight with its zeros; no nodes."""
        assert weight is not None
        return Lowered(weight=np.where(state["kept"], weight, np.zeros((), weight.dtype)))


class Kept(nn.Module):
    """Passes what is kept, and zeros elsewhere; `kept` is a bool for each weight."""

    def __init__(self, kept: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [same shape]; no gradient reaches what is hidden."""
        return torch.where(self.kept, x, torch.zeros((), dtype=x.dtype, device=x.device))
