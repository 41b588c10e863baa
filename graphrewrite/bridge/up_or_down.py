"""Learning for each weight of a layer whether it is rounded up or down, from what the layer reads and should give."""

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
        top: the highest code; the lowest is as far below zero.
        apart: 1 between neighbouring codes, or 2 where they are odd.
        bounds: what the results are cut to by the operator behind the layer; infinite where there is none.
    """

    x: Singles
    target: Singles
    weight: Singles
    steps: Singles
    bias: Singles
    top: int
    apart: int
    bounds: tuple[float, float]


@dataclass(frozen=True)
class Learning:
    """How the choice is learned (Nagel et al. 2020, equations 22 to 25).

    Args:
        steps: of the optimiser.
        rate: of the optimiser.
        rows: of one step.
        weight: of the term that drives every weight to one side, in shares of the error of nearest rounding.
        warm: share of the steps before that term begins.
        exponents: of that term, the first and the last: a high one leaves alone what is far from both sides.
    """

    steps: int = 300
    rate: float = 0.05
    rows: int = 256
    weight: float = 10.0
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


def learned_codes(problem: Problem, learning: Learning, seed: int) -> npt.NDArray[np.int64]:
    """Return codes [groups, outputs, inputs], each one of the two beside its weight, that give the least error.

    A weight is its lower code and a share of a step between 0 and 1. The shares start where the weight is unrounded,
    and are driven to one end or the other while the error of the results, behind their bounds, is kept low. An output
    that nearest rounding serves better keeps it.
    """
    # Drawn once and read in turns: slices cost no copies.
    order = torch.randperm(len(problem.x), generator=torch.Generator().manual_seed(seed))
    x = torch.from_numpy(problem.x)[order].transpose(0, 1).contiguous()
    target = torch.from_numpy(problem.target)[order].transpose(0, 1).clamp(*problem.bounds).contiguous()
    steps, bias = torch.from_numpy(problem.steps).unsqueeze(-1), torch.from_numpy(problem.bias).unsqueeze(1)
    # Counted from code to code: odd ones are twice a whole number and 1.
    first = problem.apart - 1
    least, most = (-problem.top - first) // problem.apart, (problem.top - first) // problem.apart
    weight = ((torch.from_numpy(problem.weight) - first) / problem.apart).clamp(least, most)
    lower = weight.floor()
    share = (weight - lower).clamp(_EASY, 1 - _EASY)
    latent = torch.logit((share - _BELOW) / (_ABOVE - _BELOW)).requires_grad_()

    def error(count: torch.Tensor, rows: slice) -> torch.Tensor:
        given = torch.baddbmm(bias, x[:, rows], ((count * problem.apart + first) * steps).transpose(1, 2))
        return (given.clamp(*problem.bounds) - target[:, rows]).square().mean(dim=1)  # [groups, outputs]

    with torch.no_grad():
        plain = error(weight.round(), slice(None))
    scale = 1 / plain.mean().clamp_min(torch.finfo(torch.float32).tiny)
    descent = _Adam(latent, learning.rate)
    batches = max(1, x.shape[1] // learning.rows)
    for step in range(learning.steps):
        start = step % batches * learning.rows
        between = _share(latent)
        loss = (error((lower + between).clamp(max=most), slice(start, start + learning.rows)) * scale).sum()
        latent.grad = None
        torch.autograd.backward(
            [loss, between], [None, _pull(between.detach(), learning, step / learning.steps)]
        )
        descent.step()
    with torch.no_grad():
        chosen = (lower + (_share(latent) >= 0.5)).clamp(max=most)
        is_better = error(chosen, slice(None)) < plain
        chosen = torch.where(is_better.unsqueeze(-1), chosen, weight.round())
    return np.asarray((chosen * problem.apart + first).numpy(), np.int64)


class _Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) on one tensor; torch's own loads its compiler first, for seconds."""

    def __init__(self, latent: torch.Tensor, rate: float) -> None:
        self._latent, self._rate = latent, rate
        self._mean, self._square = torch.zeros_like(latent), torch.zeros_like(latent)
        self._steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """Go one step against the gradient."""
        slope = self._latent.grad
        assert slope is not None
        self._steps += 1
        self._mean.lerp_(slope, 0.1)
        self._square.mul_(0.999).addcmul_(slope, slope, value=0.001)
        size = (self._square / (1 - 0.999**self._steps)).sqrt_().add_(1e-8)
        self._latent.addcdiv_(self._mean, size, value=-self._rate / (1 - 0.9**self._steps))


def _share(latent: torch.Tensor) -> torch.Tensor:
    return (torch.sigmoid(latent) * (_ABOVE - _BELOW) + _BELOW).clamp(0, 1)


def _pull(share: torch.Tensor, learning: Learning, done: float) -> torch.Tensor:
    """Return the slope of weight * (1 - |2 share - 1| ^ exponent), in means over the inputs of an output."""
    if done < learning.warm:
        return torch.zeros_like(share)
    first, last = learning.exponents
    exponent = first + (last - first) * (done - learning.warm) / (1 - learning.warm)
    away = 2 * share - 1
    return (
        away.abs()
        .pow_(exponent - 1)
        .mul_(away.sign_())
        .mul_(-2 * exponent * learning.weight / share.shape[-1])
    )
