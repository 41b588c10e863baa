"""Activations, element by element."""

import torch
from torch import fx
from torch.nn import functional

from graphrewrite.bridge.forms import as_is, lowers, op
from graphrewrite.bridge.reach import is_floating
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.unsigned import is_wide, ordered
from graphrewrite.ir import Array

_SOFTPLUS_IS_LINEAR = 40.0  # from here on log(1 + exp(x)) is x in double precision too
_SAFE = 6e4  # a bound that every float type can hold, half precision under autocast among them
_SINGLE = 1e-7  # how near a float32 is to the fraction it stands for
_BOUND = "a bound"

for _name, _function in {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "HardSwish": functional.hardswish,
    "Mish": functional.mish,
    "Softsign": functional.softsign,
}.items():
    as_is(_name, _function)


@op("LeakyRelu")
def leaky_relu(x: torch.Tensor, *, alpha: float = 0.01) -> torch.Tensor:
    """Return x, times alpha where it is negative."""
    return functional.leaky_relu(x, alpha)


@op("PRelu")
def prelu(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Return x, times a slope where it is negative; torch has a call of its own for one slope per channel."""
    if is_wide(x):
        return x
    per_channel = 1 < x.ndim == slope.ndim + 1 and slope.shape[0] == slope.numel() == x.shape[1]
    if per_channel and x.dtype == slope.dtype and x.is_floating_point():
        return functional.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


@op("Elu")
def elu(x: torch.Tensor, *, alpha: float = 1.0) -> torch.Tensor:
    """Return x, or alpha * (exp(x) - 1) where it is negative."""
    return functional.elu(x, alpha)


@op("Celu")
def celu(x: torch.Tensor, *, alpha: float = 1.0) -> torch.Tensor:
    """Return x, or alpha * (exp(x / alpha) - 1) where it is negative."""
    return functional.celu(x, alpha)


@op("Selu")
def selu(
    x: torch.Tensor, *, alpha: float = 1.6732631921768188, gamma: float = 1.0507010221481323
) -> torch.Tensor:
    """Return gamma times an Elu with alpha."""
    return functional.elu(x, alpha) * gamma


@op("Gelu")
def gelu(x: torch.Tensor, *, approximate: str = "none") -> torch.Tensor:
    """Return x times the normal distribution's probability of less than x, or the approximation by tanh."""
    return functional.gelu(x, approximate=approximate)


@op("Swish")
def swish(x: torch.Tensor, *, alpha: float = 1.0) -> torch.Tensor:
    """Return x * sigmoid(alpha * x)."""
    return functional.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


@op("SwiGLU")
def swiglu(gate: torch.Tensor, value: torch.Tensor, *, alpha: float = 1.0) -> torch.Tensor:
    """Return the value times the swish of its gate."""
    return swish(gate, alpha=alpha) * value


@op("HardSigmoid")
def hard_sigmoid(x: torch.Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> torch.Tensor:
    """Return alpha * x + beta between 0 and 1."""
    if beta == 0.5 and abs(6 * alpha - 1) < _SINGLE:
        return functional.hardsigmoid(x)
    return functional.hardtanh(alpha * x + beta, 0, 1)


@op("Softplus")
def softplus(x: torch.Tensor) -> torch.Tensor:
    """Return log(1 + exp(x))."""
    return functional.softplus(x, threshold=_SOFTPLUS_IS_LINEAR)


@op("ThresholdedRelu")
def thresholded_relu(x: torch.Tensor, *, alpha: float = 1.0) -> torch.Tensor:
    """Return x where it is more than alpha, else 0."""
    return torch.where(x > alpha, x, 0)


@op("Shrink")
def shrink(x: torch.Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> torch.Tensor:
    """Return numbers beyond +-lambd, moved by the bias towards zero; 0 for those between."""
    wide = x if x.is_floating_point() else x.double()
    return torch.where(wide < -lambd, wide + bias, torch.where(wide > lambd, wide - bias, 0)).to(x.dtype)


@lowers("Clip", folds=True)
def clip_by_attributes(site: Site) -> fx.Node | None:
    """Write a limit to two numbers of the node; either may be missing."""
    low, high = (site.number(name, 0) if name in site.attributes else None for name in ("min", "max"))
    return site.tensor(0) if low is high is None else _between(site, low, high)


@lowers("Clip", since=11, still={1: _BOUND, 2: _BOUND}, folds=True)
def clip(site: Site) -> fx.Node | None:
    """Write a limit to two inputs; known bounds are written as numbers."""
    kind = site.dtype(0)
    bounds = [site.constant(1), site.constant(2)]
    known = all(_is_number(bound) or not site.has(slot) for slot, bound in enumerate(bounds, 1))
    if not site.has(1) and not site.has(2):
        return site.tensor(0)
    if not known or kind is None or kind.kind == "u":
        return site.call(limited, site.tensor(0), site.tensor(1), site.tensor(2))
    low, high = (None if bound is None else bound.item() for bound in bounds)
    return _between(site, low, high)


def _between(site: Site, low: float | None, high: float | None) -> fx.Node:
    """Write a limit to known numbers; for two of them torch has a call whose gradient is one pass over the data."""
    kind = site.dtype(0)
    if low is not None and high is not None and low <= high and kind is not None and is_floating(kind):
        return site.call(functional.hardtanh, site.tensor(0), low, high)
    return site.call(torch.clamp, site.tensor(0), low, high)


def _is_number(bound: Array | None) -> bool:
    return bound is not None and bound.size == 1 and bool(abs(bound.reshape(()).astype(float)) <= _SAFE)


@ordered
def limited(x: torch.Tensor, low: torch.Tensor | None, high: torch.Tensor | None) -> torch.Tensor:
    """Return min(max(x, low), high), without the bounds that are None."""
    low, high = (None if bound is None else bound.reshape(()) for bound in (low, high))
    return torch.clamp(x, low, high)
