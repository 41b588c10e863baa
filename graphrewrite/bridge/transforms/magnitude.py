"""Numbers that never go below zero: the gain of a norm whose share of a grid's steps is to stay one."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Lowered, transforms
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array


@transforms.register("magnitude")
@dataclass(frozen=True)
class Magnitude:
    """The magnitude of each number of a weight; one that an optimiser carries through zero comes back."""

    tolerance: float = 0.0

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the module that takes magnitudes."""
        if weight is None:
            raise InvalidConfig(
                "Magnitude was put behind an activation; expected the name of a weight; correct it, or draw an Abs"
            )
        return Magnitudes()

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the magnitudes; no nodes."""
        assert weight is not None
        return Lowered(weight=np.abs(weight))


class Magnitudes(nn.Module):
    """|x|, with the slope 1 at zero: a gain that starts there may learn."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [same shape]."""
        return torch.where(x < 0, -x, x)
