"""Comparisons, logic on bools, and choices made by them."""

import math

import torch

from graphrewrite.bridge.forms import as_is, op
from graphrewrite.bridge.unsigned import ordered

as_is("Where", torch.where)
for _name, _function in {
    "Equal": torch.eq,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "Not": torch.logical_not,
}.items():
    as_is(_name, _function, gradient=False)


@op("Greater", gradient=False, plain=torch.gt)
@ordered
def greater(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Tell where a > b."""
    return a > b


@op("GreaterOrEqual", gradient=False, plain=torch.ge)
@ordered
def greater_or_equal(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Tell where a >= b."""
    return a >= b


@op("Less", gradient=False, plain=torch.lt)
@ordered
def less(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Tell where a < b."""
    return a < b


@op("LessOrEqual", gradient=False, plain=torch.le)
@ordered
def less_or_equal(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Tell where a <= b."""
    return a <= b


@op("IsNaN", gradient=False)
def is_nan(x: torch.Tensor) -> torch.Tensor:
    """Tell where a number is not one."""
    return torch.isnan(_readable(x))


@op("IsInf", gradient=False)
def is_inf(x: torch.Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> torch.Tensor:
    """Tell where a number is infinite, of both signs or one."""
    x = _readable(x)
    found = torch.zeros_like(x, dtype=torch.bool)
    if detect_negative:
        found = found | (x == -math.inf)
    if detect_positive:
        found = found | (x == math.inf)
    return found


def _readable(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.float32) if x.itemsize == 1 else x
