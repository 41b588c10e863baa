"""Signs of weights whose far ends are pulled in first, so that they can still change sides."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import e, exp, log, sqrt

import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Lowered, straight_through, transforms
from graphrewrite.bridge.transforms.latent import (
    centred,
    put_back,
    settled,
    standardized,
    weight_only,
)
from graphrewrite.bridge.transforms.sign import plus_minus
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array

_SPREAD = 2 * sqrt(2)  # a Laplace distribution of this deviation has the scale 2


@transforms.register("recu_sign")
@dataclass(frozen=True)
class RecuSign:
    """Signs of a weight whose filters are standardized and clamped at a quantile (Xu et al. 2021).

    The quantile is that of a Laplace distribution; `tau` is the first and the last of its course over the stage. With
    `in_place` the clamped numbers are stored in each step, so that ends are really pulled in; without, as in the
    authors' code, a clamped weight gets its gradient through the mean and deviation of its filter only.
    """

    tau: tuple[float, float] = (0.85, 0.99)
    in_place: bool = False
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if len(self.tau) != 2 or not all(0.5 < tau < 1 for tau in self.tau):
            raise InvalidConfig(
                f"RecuSign.tau is {self.tau}; expected two quantiles between 0.5 and 1, such as (0.85, 0.99)"
            )

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the trainable form of a weight, filters on its first axis."""
        weight_only(self, weight)
        return PulledIn(self.tau, self.in_place)

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the signs as the weight."""
        return settled(self, weight, state)


class PulledIn(nn.Module):
    """Standardizes, clamps at the quantile `tau`, takes signs; the gradient passes the signs as if they were not."""

    def __init__(self, course: tuple[float, float], in_place: bool) -> None:
        super().__init__()
        self.course, self.in_place = course, in_place
        self.register_buffer("tau", torch.tensor(course[0]))

    def advance(self, done: float) -> None:
        """Move the quantile outwards."""
        self.tau.fill_(tau_at(self.course, done))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return +1 and -1 in the shape of the weight."""
        tau = float(self.tau)
        if self.in_place and self.training:
            put_back(weight, _pulled_in(weight.detach(), tau))
        found = clamped(_SPREAD * standardized(weight), tau)
        return straight_through(plus_minus(found), found)


def tau_at(course: tuple[float, float], done: float) -> float:
    """Return the quantile when a share `done` of the stage lies behind: an exponential from end to end."""
    low, high = course
    return low + (high - low) * (exp(done) - 1) / (e - 1)


def threshold(scale: torch.Tensor, tau: float) -> torch.Tensor:
    """Return the tau-quantile of a Laplace distribution around 0 of a scale."""
    return -scale * log(2 - 2 * tau)


def clamped(weight: torch.Tensor, tau: float) -> torch.Tensor:
    """Return a centred weight clamped at its tau-quantile on either side, its mean size taken for the scale."""
    limit = threshold(weight.detach().abs().mean(), tau)
    return torch.minimum(torch.maximum(weight, -limit), limit)


def _pulled_in(weight: torch.Tensor, tau: float) -> torch.Tensor:
    """Return the weight with the clamp undone from its standardized form: same means, same unit."""
    inner = centred(weight)
    scaled = _SPREAD * standardized(weight)
    limit = threshold(scaled.abs().mean(), tau)
    return torch.where(scaled.abs() > limit, inner * (limit / scaled.abs().clamp_min(1e-30)), inner) + (
        weight - inner
    )
