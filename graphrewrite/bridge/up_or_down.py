"""Learning for each weight of a layer whether it is rounded up or down, from what the layer reads and should give."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from graphrewrite.errors import InvalidConfig

_ABOVE, _BELOW = 1.1, -0.1  # ends of the stretched sigmoid: 0 and 1 are reached at finite numbers
_EASY = 0.01  # how far inside those ends it starts, so that every weight has a gradient

Singles = npt.NDArray[np.float32]


class Problem(NamedTuple):
    """One layer as products of rows with groups of weights.

    Attributes:
        x: what the layer reads, [rows, groups, inputs].
        target: what it should give, [rows, groups, outputs], its bias included.
        weight: in steps, [groups, outputs, inputs].
        steps: what a step is worth, [groups, outputs].
        bias: [groups, outputs].
        codes: the lowest and the highest.
        bounds: what the results are cut to by the operator behind the layer; infinite where there is none.
    """

    x: Singles
    target: Singles
    weight: Singles
    steps: Singles
    bias: Singles
    codes: tuple[int, int]
    bounds: tuple[float, float]


@dataclass(frozen=True)
class Learning:
    """How the choice is learned (Nagel et al. 2020, equations 22 to 25).

    Args:
        steps: of the optimiser, Adam.
        rate: of the optimiser.
        rows: of one step.
        weight: of the term that drives every weight to one side, in shares of the error of nearest rounding.
        warm: share of the steps before that term begins.
        exponents: of that term, the first and the last: a high one leaves alone what is far from both sides.
    """

    steps: int = 800
    rate: float = 0.02
    rows: int = 256
    weight: float = 1.0
    warm: float = 0.2
    exponents: tuple[float, float] = (20.0, 2.0)

    def __post_init__(self) -> None:
        for name in ("steps", "rows"):
            value = getattr(self, name)
            if isinstance(value, bool) or value < 1:
                raise InvalidConfig(
                    f"Learning.{name} is {value!r}; expected a whole number of at least 1; correct it"
                )
        if not (self.rate > 0 and self.weight >= 0 and 0 <= self.warm < 1 and min(self.exponents) > 0):
            raise InvalidConfig(
                f"Learning has rate {self.rate}, weight {self.weight}, warm {self.warm}, exponents {self.exponents}; "
                "expected a rate above 0, a weight of at least 0, warm from 0 to below 1, exponents above 0; correct it"
            )


def learned_codes(
    problem: Problem, learning: Learning, seed: int, step_done: Callable[[], None] = lambda: None
) -> npt.NDArray[np.int64]:
    """Return codes [groups, outputs, inputs], each one of the two beside its weight, that give the least error.

    A weight is its lower code and a share of a step between 0 and 1. The shares start where the weight is unrounded,
    and are driven to one end or the other while the error of the results, behind their bounds, is kept low.
    """
    random = torch.Generator().manual_seed(seed)
    x, target = torch.from_numpy(problem.x), torch.from_numpy(problem.target).clamp(*problem.bounds)
    weight, steps = torch.from_numpy(problem.weight), torch.from_numpy(problem.steps).unsqueeze(-1)
    bias = torch.from_numpy(problem.bias)
    lower = weight.clamp(*problem.codes).floor()
    share = (weight.clamp(*problem.codes) - lower).clamp(_EASY, 1 - _EASY)
    latent = torch.logit((share - _BELOW) / (_ABOVE - _BELOW)).requires_grad_()
    x_of, target_of = x.transpose(0, 1).contiguous(), target.transpose(0, 1).contiguous()

    def error(codes: torch.Tensor, rows: torch.Tensor | slice) -> torch.Tensor:
        given = torch.baddbmm(bias.unsqueeze(1), x_of[:, rows], (codes * steps).transpose(1, 2))
        return (given.clamp(*problem.bounds) - target_of[:, rows]).square().mean(dim=1)  # [groups, outputs]

    with torch.no_grad():
        nearest = error(weight.round().clamp(*problem.codes), slice(None))
        floor = nearest.mean().clamp_min(torch.finfo(torch.float32).tiny)
        # Outputs count by their share of the error; those that are exact already must not count for nothing at all.
        scale = 1 / floor
    optimiser = torch.optim.Adam([latent], lr=learning.rate)
    pull = learning.weight / weight.shape[-1]
    for step in range(learning.steps):
        done = step / learning.steps
        rows = torch.randint(len(x), (learning.rows,), generator=random)
        between = _share(latent)
        codes = (lower + between).clamp(*problem.codes)
        loss = (error(codes, rows) * scale).sum()
        if done >= learning.warm:
            first, last = learning.exponents
            exponent = first + (last - first) * (done - learning.warm) / (1 - learning.warm)
            loss = loss + pull * (1 - (2 * between - 1).abs().pow(exponent)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step_done()
    chosen = lower + (_share(latent.detach()) >= 0.5)
    return np.asarray(chosen.clamp(*problem.codes).numpy(), np.int64)


def _share(latent: torch.Tensor) -> torch.Tensor:
    return (torch.sigmoid(latent) * (_ABOVE - _BELOW) + _BELOW).clamp(0, 1)
