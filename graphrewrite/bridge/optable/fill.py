"""Tensors made from a few numbers: one value everywhere or on a diagonal, or a run of them."""

import math

import numpy as np
import torch
from torch import fx

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.host import Numbers, single
from graphrewrite.bridge.numbers import tensor_of, torch_type
from graphrewrite.bridge.site import Site


@lowers("ConstantOfShape", since=9, host=(0,), gradient=False, folds=True)
def constant_of_shape(site: Site) -> fx.Node:
    """Write the call for one value everywhere, zero by default."""
    one = tensor_of(site.array("value", np.zeros(1, np.float32)).reshape(-1)[:1])
    return site.call(filled, site.numbers(0), one.item(), one.dtype, site.like)


def filled(
    shape: tuple[int, ...], value: float | bool | complex, dtype: torch.dtype, like: torch.Tensor
) -> torch.Tensor:
    """Return one value everywhere, on the device of `like`."""
    return torch.full(shape, value, dtype=dtype, device=like.device)


@lowers("Range", since=11, host=(0, 1, 2), gradient=False, folds=True)
def range_known(site: Site) -> fx.Node:
    """Write a run of numbers; where only the run tells of which type they are, its start is asked."""
    dtype = site.dtype(0)
    like = site.like if dtype is not None else site.tensor(0)
    made = None if dtype is None else tensor_of(np.zeros(0, dtype)).dtype
    return site.call(run_of, *(site.numbers(slot) for slot in range(3)), made, like)


def run_of(
    start: Numbers, limit: Numbers, delta: Numbers, dtype: torch.dtype | None, like: torch.Tensor
) -> torch.Tensor:
    """Return start, start + delta, ... before `limit`, computed exactly and rounded once.

    The three may be vectors of one number. Without `dtype` the numbers are of the type of `like`.
    """
    first, last, step = (single(value) for value in (start, limit, delta))
    dtype = like.dtype if dtype is None else dtype
    if not dtype.is_floating_point:
        count = max(-((first - last) // step), 0)
        steps = torch.arange(count, device=like.device)
    else:
        count = max(math.ceil((last - first) / step), 0)
        steps = torch.arange(count, dtype=torch.float64, device=like.device)
    return (steps * step + first).to(dtype)


@op("EyeLike", gradient=False)
def eye_like(x: torch.Tensor, *, dtype: int | None = None, k: int = 0) -> torch.Tensor:
    """Return ones on the k-th diagonal, k > 0 above the main one, zeros elsewhere."""
    rows = torch.arange(x.shape[0], device=x.device)[:, None]
    columns = torch.arange(x.shape[1], device=x.device)
    return (rows + k == columns).to(x.dtype if dtype is None else torch_type(dtype))
