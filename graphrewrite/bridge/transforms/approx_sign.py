"""Signs of activations whose gradient is a bent line: it is steepest at 0 and fades to nothing on either side."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log10, sqrt
from typing import Literal

import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Lowered, straight_through, transforms
from graphrewrite.bridge.transforms.sign import draw_signs, plus_minus
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array

_LEAST_VARIANCE = 1e-5


@transforms.register("approx_sign")
@dataclass(frozen=True)
class ApproxSign:
    """+1 where x >= 0, else -1; the gradient is max(0, sqrt(2) t - t^2 |x|), by default max(0, 2 - 2 |x|).

    With t = sqrt(2) it is the parabola of Liu et al. 2018; a `steep` that runs from a small t to a large one over the
    stage, evenly in its logarithm and not below 1, is that of Lin et al. 2020. `unit` is what |x| is measured in:
    "one", or the standard "deviation" of the sample over all but its first axis. No unit is left in the graph: it
    changes no sign.
    """

    unit: Literal["one", "deviation"] = "one"
    steep: tuple[float, float] = (sqrt(2), sqrt(2))
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if self.unit not in ("one", "deviation"):
            raise InvalidConfig(
                f'ApproxSign.unit is {self.unit!r}; it must be "one" or "deviation"; correct it'
            )
        check_steep("ApproxSign.steep", self.steep)

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the signs of an activation."""
        if weight is not None:
            raise InvalidConfig(
                "ApproxSign was put behind a weight; expected the name of an activation; for weights take Sign"
            )
        return ApproxSigns(self.unit, self.steep)

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return a comparison and a choice."""
        return Lowered(draw=draw_signs)


class ApproxSigns(nn.Module):
    """Signs with the bent gradient; `t` says how steep it is now."""

    def __init__(self, unit: str, steep: tuple[float, float]) -> None:
        super().__init__()
        self.unit, self.steep = unit, steep
        self.register_buffer("t", torch.tensor(max(1.0, steep[0])))

    def advance(self, done: float) -> None:
        """Make the gradient steeper, or leave it."""
        self.t.fill_(max(1.0, steepness(self.steep, done)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return +1 and -1 in the shape of x, samples on the first axis."""
        measured = x
        if self.unit == "deviation":
            others = list(range(1, x.ndim))
            measured = x / torch.sqrt(x.var(dim=others, keepdim=True, correction=0) + _LEAST_VARIANCE)
        return straight_through(plus_minus(x), bent(measured, self.t))


def bent(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the line whose slope is max(0, max(1, 1 / t) (sqrt(2) t - t^2 |x|)) (Lin et al. 2020)."""
    end = sqrt(2) / t
    inside = torch.minimum(torch.maximum(x, -end), end)
    return torch.clamp(1 / t, min=1) * (sqrt(2) * t * inside - t * t * inside * inside.abs() / 2)


def steepness(steep: tuple[float, float], done: float) -> float:
    """Return t when a share `done` of the stage lies behind: evenly in its logarithm."""
    low, high = log10(steep[0]), log10(steep[1])
    return float(10 ** (low + (high - low) * done))


def check_steep(field: str, steep: tuple[float, float]) -> None:
    """Check that a course of steepness is one.

    Raises:
        InvalidConfig: it is not.
    """
    if len(steep) != 2 or not min(steep) > 0:
        raise InvalidConfig(
            f"{field} is {steep}; expected two positive numbers, the first and the last; such as (0.01, 10)"
        )
