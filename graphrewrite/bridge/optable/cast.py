"""Other element types."""

import math

import torch
from torch import fx

from graphrewrite.bridge.forms import lowers
from graphrewrite.bridge.numbers import torch_type
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.value import Value
from graphrewrite.ir.values import numpy_dtype_to_onnx

_ROUNDS_TO_LARGEST = (
    464.0  # halfway from the largest E4M3FN, 448, to where the next one would be; ties go to even
)


@lowers("Identity", folds=True)
def identity(site: Site) -> Value | fx.Node | None:
    """Stand for the input itself; no call is written."""
    return site.tensor(0)


@lowers("Cast", folds=True)
def cast(site: Site) -> fx.Node:
    """Write a change of type; one to 8-bit floats keeps to their range unless told otherwise."""
    return _changed(site, torch_type(site.integer("to", 0)))


@lowers("CastLike", still={1: "only its type is read"}, folds=True)
def cast_like(site: Site) -> fx.Node:
    """Write a change to the type of the second input."""
    wanted = site.dtype(1)
    if wanted is not None:
        return _changed(site, torch_type(numpy_dtype_to_onnx(wanted)))
    return site.call(to_type_of, site.tensor(0), site.tensor(1), saturate=bool(site.integer("saturate", 1)))


def _changed(site: Site, dtype: torch.dtype) -> fx.Node:
    if dtype.itemsize == 1 and dtype.is_floating_point:
        return site.call(narrowed, site.tensor(0), dtype, saturate=bool(site.integer("saturate", 1)))
    return site.call(torch.Tensor.to, site.tensor(0), dtype)


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
    if like.itemsize == 1 and like.is_floating_point():
        return narrowed(x, like.dtype, saturate=saturate)
    return x.to(like.dtype)
