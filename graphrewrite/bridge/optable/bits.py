"""Bits of whole numbers."""

import torch
from torch import fx

from graphrewrite.bridge.forms import as_is, lowers, op
from graphrewrite.bridge.numbers import torch_type
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.unsigned import shifted_right, widened

for _name, _function in {
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
}.items():
    as_is(_name, _function, gradient=False)


@op("BitwiseNot", gradient=False)
@widened
def bitwise_not(x: torch.Tensor) -> torch.Tensor:
    """Turn every bit round."""
    return ~x


@op("BitShift", gradient=False)
def bit_shift(x: torch.Tensor, count: torch.Tensor, *, direction: str) -> torch.Tensor:
    """Shift bits; a count that is negative or beyond the type leaves the fill: zeros, or the sign to the right."""
    bits = 8 * x.itemsize
    wide, count = x.to(torch.int64), count.to(torch.int64)
    beyond = (count < 0) | (count >= bits)
    count = torch.where(beyond, bits - 1, count)
    if direction == "RIGHT" and x.dtype.is_signed:
        return (wide >> count).to(x.dtype)
    shifted = shifted_right(wide, count) if direction == "RIGHT" else wide << count
    return torch.where(beyond, 0, shifted).to(x.dtype)


@lowers("BitCast", gradient=False, folds=True)
def bit_cast(site: Site) -> fx.Node:
    """Write the same bits read as another type of the same width."""
    return site.call(torch.Tensor.view, site.tensor(0), torch_type(site.integer("to", 0)))
