"""Weights on levels that are all taken about equally often."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Lowered, check_bits, straight_through, transforms
from graphrewrite.bridge.transforms.grids import stored_codes
from graphrewrite.bridge.transforms.step import SMALLEST
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array


@transforms.register("level_quantize")
@dataclass(frozen=True)
class LevelQuantize:
    """2^bits levels from -s to s, with s so that uniform weights take each equally often (Liu et al. 2022).

    s is (2^bits - 1) / 2^(bits - 1) times the mean magnitude of each position of `axis`, and no level is zero. Rounding
    and scale pass the gradient on, cutting off does not. A weight becomes odd int8 numbers and DequantizeLinear.
    """

    bits: int = 2
    axis: int = 0
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        check_bits("LevelQuantize", self.bits, 1, 7)  # odd numbers: those of 8 bits reach 255

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the levels of a weight."""
        if weight is None:
            raise InvalidConfig(
                "LevelQuantize was put behind an activation, which has no outputs to take means of; expected the name "
                "of a weight; take LearnedThresholds there"
            )
        return Levels(self.bits, self.axis % weight.ndim)

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the odd numbers and what multiplies them."""
        assert weight is not None
        levels = Levels(self.bits, self.axis % weight.ndim)
        values = torch.from_numpy(np.array(weight, np.float32))
        step = levels.step(values)
        odd = levels.codes(values, step).to(torch.int8).numpy()
        return stored_codes(odd, step.flatten().numpy(), levels.axis)


class Levels(nn.Module):
    """Rounds each position of `axis` to its own levels."""

    def __init__(self, bits: int, axis: int) -> None:
        super().__init__()
        self.bits, self.axis = bits, axis

    def step(self, x: torch.Tensor) -> torch.Tensor:
        """Return half the distance of two levels, broadcastable to x."""
        # In double precision the order of the sum does not show: the lowered weight gets the same step.
        wide = x.detach().double().abs()
        others = [each for each in range(x.ndim) if each != self.axis]
        mean = wide.mean(dim=others, keepdim=True) if others else wide
        return (mean / 2 ** (self.bits - 1)).clamp_min(SMALLEST).to(x.dtype)

    def codes(self, x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Return the odd numbers [same shape], with a gradient that looks through the rounding."""
        top = 2**self.bits - 1
        place = ((x / step).clamp(-top, top) + top) / 2
        return 2 * straight_through(place.round(), place) - top

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [same shape]."""
        step = self.step(x)
        return self.codes(x, step) * step
