"""Numbers of several axes made into one."""

import math
from collections.abc import Callable, Mapping
from functools import wraps

import torch
from torch import fx

from graphrewrite.bridge.forms import lowers
from graphrewrite.bridge.host import Numbers
from graphrewrite.bridge.reach import is_floating
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.unsigned import ordered, widened

Axes = tuple[int, ...]
Compute = Callable[[torch.Tensor, Axes, bool], torch.Tensor]


def over_axes(compute: Compute) -> Callable[..., torch.Tensor]:
    """Give a reduction, which takes the axes it runs over, ONNX's meanings of no axes.

    Without axes all are meant, or with `noop` none: then each number is reduced by itself, along an axis put in for it.
    """

    @wraps(compute)
    def run(x: torch.Tensor, axes: Axes | int | None, keep: bool, noop: bool = False) -> torch.Tensor:
        axes = axes if axes is None or isinstance(axes, tuple) else (axes,)
        if axes:
            return compute(x, axes, keep)
        if noop or x.ndim == 0:
            return compute(x.unsqueeze(-1), (-1,), False)
        return compute(x, tuple(range(x.ndim)), keep)

    return run


@over_axes
@widened
def reduce_sum(x: torch.Tensor, axes: Axes, keep: bool) -> torch.Tensor:
    """Return sums."""
    return x.sum(axes, keep, dtype=x.dtype)


@over_axes
@widened
def reduce_mean(x: torch.Tensor, axes: Axes, keep: bool) -> torch.Tensor:
    """Return means; of whole numbers cut towards zero."""
    if x.is_floating_point():
        return x.mean(axes, keep)
    count = math.prod(x.shape[axis] for axis in axes)
    return torch.div(x.sum(axes, keep, dtype=x.dtype), max(count, 1), rounding_mode="trunc")


@over_axes
@widened
def reduce_prod(x: torch.Tensor, axes: Axes, keep: bool) -> torch.Tensor:
    """Return products; torch takes one axis at a time."""
    for axis in axes:
        x = x.prod(axis, keepdim=True, dtype=x.dtype)
    return x if keep else _without(x, axes)


@over_axes
@ordered
def reduce_max(x: torch.Tensor, axes: Axes, keep: bool) -> torch.Tensor:
    """Return the largest numbers; of none, the least that the type holds."""
    return _extreme(torch.amax, x, axes, keep, -math.inf)


@over_axes
@ordered
def reduce_min(x: torch.Tensor, axes: Axes, keep: bool) -> torch.Tensor:
    """Return the smallest numbers; of none, the largest that the type holds."""
    return _extreme(torch.amin, x, axes, keep, math.inf)


@over_axes
@widened
def reduce_l1(x: torch.Tensor, axes: Axes, keep: bool) -> torch.Tensor:
    """Return sums of magnitudes."""
    return x.abs().sum(axes, keep, dtype=x.dtype)


@over_axes
@widened
def reduce_l2(x: torch.Tensor, axes: Axes, keep: bool) -> torch.Tensor:
    """Return lengths; the gradient at zero is zero."""
    return torch.linalg.vector_norm(_as_floats(x), 2, axes, keep).to(x.dtype)


@over_axes
@widened
def reduce_sum_square(x: torch.Tensor, axes: Axes, keep: bool) -> torch.Tensor:
    """Return sums of squares."""
    return (x * x).sum(axes, keep, dtype=x.dtype)


@over_axes
@widened
def reduce_log_sum(x: torch.Tensor, axes: Axes, keep: bool) -> torch.Tensor:
    """Return logarithms of sums."""
    return _as_floats(x).sum(axes, keep).log().to(x.dtype)


@over_axes
@widened
def reduce_log_sum_exp(x: torch.Tensor, axes: Axes, keep: bool) -> torch.Tensor:
    """Return logarithms of sums of exponentials."""
    return torch.logsumexp(_as_floats(x), axes, keep).to(x.dtype)


def _as_floats(x: torch.Tensor) -> torch.Tensor:
    return x if x.is_floating_point() else x.double()


def _without(x: torch.Tensor, axes: Axes) -> torch.Tensor:
    return x.squeeze(axes)


def _extreme(
    find: Callable[..., torch.Tensor], x: torch.Tensor, axes: Axes, keep: bool, of_none: float
) -> torch.Tensor:
    """Return the extremes; where an axis is empty, what the type has nearest to the infinity `of_none`."""
    if all(x.shape[axis] for axis in axes):
        return find(x, axes, keep)
    if x.dtype == torch.bool:
        of_none = of_none > 0
    elif not x.is_floating_point():
        of_none = torch.iinfo(x.dtype).max if of_none > 0 else torch.iinfo(x.dtype).min
    sizes = [1 if axis in {a % x.ndim for a in axes} else size for axis, size in enumerate(x.shape)]
    full = torch.full(sizes, of_none, dtype=x.dtype, device=x.device)
    return full if keep else _without(full, axes)


_REDUCTIONS: Mapping[str, Callable[..., torch.Tensor]] = {
    "ReduceSum": reduce_sum,
    "ReduceMean": reduce_mean,
    "ReduceProd": reduce_prod,
    "ReduceMax": reduce_max,
    "ReduceMin": reduce_min,
    "ReduceL1": reduce_l1,
    "ReduceL2": reduce_l2,
    "ReduceSumSquare": reduce_sum_square,
    "ReduceLogSum": reduce_log_sum,
    "ReduceLogSumExp": reduce_log_sum_exp,
}
# Those whose call in torch is the same once the axes are known and the numbers are floats.
_PLAIN: Mapping[str, Callable[..., torch.Tensor]] = {
    "ReduceSum": torch.sum,
    "ReduceMean": torch.mean,
    "ReduceLogSumExp": torch.logsumexp,
}


def by_attribute(site: Site) -> fx.Node:
    """Write a reduction whose axes stand in the node."""
    return _reduced(site, site.integers("axes"))


def by_input(site: Site) -> fx.Node:
    """Write a reduction whose axes are an input."""
    return _reduced(site, site.numbers(1))


def _reduced(site: Site, axes: fx.Node | Numbers | None) -> fx.Node:
    keep, noop = bool(site.integer("keepdims", 1)), bool(site.integer("noop_with_empty_axes", 0))
    kind, name = site.dtype(0), site.node.op
    if name in _PLAIN and isinstance(axes, tuple) and axes and kind is not None and is_floating(kind):
        return site.call(_PLAIN[name], site.tensor(0), axes, keep)
    return site.call(_REDUCTIONS[name], site.tensor(0), axes, keep, noop)


for _name in _REDUCTIONS:
    lowers(_name, folds=True)(by_attribute)
    lowers(_name, since=13 if _name == "ReduceSum" else 18, host=(1,), folds=True)(by_input)
