"""Sums, products, quotients and powers, element by element."""

from functools import reduce

import torch
from torch import fx

from graphrewrite.bridge.forms import as_is, lowers, op
from graphrewrite.bridge.reach import is_floating
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.unsigned import is_wide, ordered, quotient, widened

as_is("Mul", torch.mul)
as_is("Neg", torch.neg)


@op("Add", plain=torch.add)
@widened
def add(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return a + b."""
    return a + b


@op("Sub", plain=torch.sub)
@widened
def sub(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return a - b."""
    return a - b


@op("Div", plain=torch.div)
def div(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return a / b; whole numbers are cut towards zero."""
    if a.dtype.is_floating_point:
        return a / b
    if a.dtype == torch.uint64:
        return quotient(a.view(torch.int64), b.view(torch.int64)).view(torch.uint64)
    return _cut(a, b)


@widened
def _cut(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.div(a, b, rounding_mode="trunc")


@op("Mod")
def mod(a: torch.Tensor, b: torch.Tensor, *, fmod: int = 0) -> torch.Tensor:
    """Return the remainder with the sign of b, or with that of a when `fmod` is set."""
    if a.dtype == torch.uint64:
        a, b = a.view(torch.int64), b.view(torch.int64)
        return (a - quotient(a, b) * b).view(torch.uint64)
    return _remainder(a, b, fmod=fmod)


@widened
def _remainder(a: torch.Tensor, b: torch.Tensor, *, fmod: int) -> torch.Tensor:
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


@op("Abs", plain=torch.abs)
def absolute(x: torch.Tensor) -> torch.Tensor:
    """Return |x|."""
    return x if is_wide(x) else torch.abs(x)


@lowers("Pow", folds=True)
def pow_(site: Site) -> fx.Node:
    """Write a power with one known exponent as torch's power of a number, which is several times as fast."""
    exponent, kind = site.constant(1), site.dtype(0)
    if exponent is None or exponent.ndim or kind is None or not is_floating(kind):
        return site.call(power, site.tensor(0), site.tensor(1))
    value = exponent.item()
    if value == 2:
        return site.call(torch.square, site.tensor(0))
    return site.call(torch.pow, site.tensor(0), value)


def power(x: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Return x to the power of a tensor of any type, in the type of x."""
    if is_wide(exponent):
        exponent = exponent.to(torch.int64)
    base = x.double() if exponent.is_floating_point() and not x.is_floating_point() else x
    return torch.pow(base, exponent).to(x.dtype)


@op("Sum")
def sum_(*terms: torch.Tensor) -> torch.Tensor:
    """Return the sum of all inputs."""
    return reduce(torch.add, terms)


@op("Mean")
def mean(*terms: torch.Tensor) -> torch.Tensor:
    """Return the mean of all inputs."""
    return sum_(*terms) / len(terms)


@op("Max")
@ordered
def max_(*values: torch.Tensor) -> torch.Tensor:
    """Return the largest of each place."""
    return reduce(torch.maximum, values)


@op("Min")
@ordered
def min_(*values: torch.Tensor) -> torch.Tensor:
    """Return the smallest of each place."""
    return reduce(torch.minimum, values)
