"""Other element types."""

import math

import ml_dtypes
import numpy as np
import torch
from torch import fx

from graphrewrite.bridge.forms import lowers
from graphrewrite.bridge.numbers import tensor_of, torch_type
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.value import Value
from graphrewrite.ir.values import numpy_dtype_to_onnx, onnx_dtype_to_numpy

# Halfway from the largest E4M3FN, 448, to where the next one would be; ties go to even.
_ROUNDS_TO_LARGEST = 464.0
_E8M0_BIAS, _E8M0_NAN = 127, 255
_BELOW_A_BYTE = ("int4", "uint4", "int2", "uint2")


@lowers("Identity", folds=True)
def identity(site: Site) -> Value | fx.Node | None:
    """Stand for the input itself; no call is written."""
    return site.tensor(0)


@lowers("Cast", folds=True)
def cast(site: Site) -> fx.Node:
    """Write a change of type; one to 8-bit floats keeps to their range unless told otherwise."""
    return _changed(site, site.integer("to", 0))


@lowers("CastLike", still={1: "only its type is read"}, folds=True)
def cast_like(site: Site) -> fx.Node:
    """Write a change to the type of the second input."""
    wanted = site.dtype(1)
    if wanted is not None:
        return _changed(site, numpy_dtype_to_onnx(wanted))
    return site.call(to_type_of, site.tensor(0), site.tensor(1), saturate=bool(site.integer("saturate", 1)))


def _changed(site: Site, to: int) -> fx.Node:
    x, saturate = site.tensor(0), bool(site.integer("saturate", 1))
    kind = onnx_dtype_to_numpy(to)
    if kind.name in _BELOW_A_BYTE:
        bounds = ml_dtypes.iinfo(kind)  # type: ignore[no-untyped-call]
        held = tensor_of(np.zeros(0, kind)).dtype
        return site.call(wrapped, x, held, int(bounds.min), int(bounds.max))
    dtype = torch_type(to)
    if dtype == torch.float8_e8m0fnu:
        return site.call(powers_of_two, x, saturate=saturate, rounding=site.text("round_mode", "up"))
    if dtype.itemsize == 1 and dtype.is_floating_point:
        return site.call(narrowed, x, dtype, saturate=saturate)
    return site.call(torch.Tensor.to, x, dtype)


def wrapped(x: torch.Tensor, held: torch.dtype, low: int, high: int) -> torch.Tensor:
    """Change to whole numbers of less than a byte, held one to a byte; higher bits are lost."""
    return (((x.to(torch.int64) - low) & (high - low)) + low).to(held)


def powers_of_two(x: torch.Tensor, *, saturate: bool, rounding: str) -> torch.Tensor:
    """Change magnitudes to the nearest power of two, the one above ("up") or below ("down"), held by its exponent.

    What is beyond 2**-127 and 2**127 becomes these, or NaN without `saturate`.
    """
    part, exponent = torch.frexp(x.double().abs())  # x is part * 2**exponent, and part is in [1/2, 1)
    up = {"up": part > 0.5, "nearest": part >= 0.75, "down": part >= 1}[rounding]
    code = exponent - 1 + _E8M0_BIAS + up.to(exponent.dtype)
    code = torch.where(x == 0, -1, torch.where(torch.isinf(x), _E8M0_NAN, code))
    if saturate:
        code = code.clamp(0, _E8M0_NAN - 1)
    lost = torch.isnan(x) | (code < 0) | (code > _E8M0_NAN)
    return torch.where(lost, _E8M0_NAN, code).to(torch.uint8).view(torch.float8_e8m0fnu)


def narrowed(x: torch.Tensor, dtype: torch.dtype, *, saturate: bool) -> torch.Tensor:
    """Change to an 8-bit float type; numbers beyond its range become its largest, or what the type has for them."""
    wide = x if x.dtype in (torch.float32, torch.float64) else x.to(torch.float32)
    if saturate:
        largest = torch.finfo(dtype).max
        return wide.clamp(-largest, largest).to(dtype)
    if dtype == torch.float8_e4m3fn:  # torch's own change keeps to the range in some releases
        wide = torch.where(wide.abs() > _ROUNDS_TO_LARGEST, math.nan, wide)
    return wide.to(dtype)


def to_type_of(x: torch.Tensor, like: torch.Tensor, *, saturate: bool) -> torch.Tensor:
    """Change to the type of another tensor."""
    if like.dtype == torch.float8_e8m0fnu:
        return powers_of_two(x, saturate=saturate, rounding="up")
    if like.itemsize == 1 and like.is_floating_point():
        return narrowed(x, like.dtype, saturate=saturate)
    return x.to(like.dtype)
