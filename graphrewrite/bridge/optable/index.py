"""Numbers picked by where they stand: slices, gathered rows, reversed runs, triangles."""

import operator

import numpy as np
import torch
from torch import fx

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.host import Numbers, single, vector
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.unsigned import widened

_FAR = 1 << 60  # beyond the end of any axis


@op("Slice")
def slice_fixed(
    data: torch.Tensor,
    *,
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...] | None = None,
) -> torch.Tensor:
    """Slice as before operator set 10: everything is an attribute."""
    return cut(data, starts, ends, axes)


@lowers("Slice", since=10, host=(1, 2, 3, 4), folds=True)
def slice_known(site: Site) -> fx.Node:
    """Write a plain subscript where all limits are settled and run forwards."""
    limits = [site.constant(slot) for slot in range(1, 5)]
    shape = site.shape(0)
    starts, ends, axes, steps = (None if limit is None else limit.reshape(-1).tolist() for limit in limits)
    settled = all(limit is not None or not site.has(slot) for slot, limit in enumerate(limits, 1))
    if settled and starts is not None and ends is not None and (steps is None or min(steps, default=1) > 0):
        axes = list(range(len(starts))) if axes is None else axes
        if shape is not None:
            axes = [axis % len(shape) for axis in axes]
        if all(axis >= 0 for axis in axes):
            runs = [slice(None)] * (max(axes, default=-1) + 1)
            for i, axis in enumerate(axes):
                runs[axis] = slice(_near(starts[i]), _near(ends[i]), None if steps is None else steps[i])
            return site.call(operator.getitem, site.tensor(0), tuple(runs))
    return site.call(cut, site.tensor(0), *(site.numbers(slot) for slot in range(1, 5)))


def cut(
    data: torch.Tensor,
    starts: Numbers,
    ends: Numbers,
    axes: Numbers | None = None,
    steps: Numbers | None = None,
) -> torch.Tensor:
    """Return a run along each of some axes; limits beyond the tensor are cut, a negative step runs backwards."""
    runs = [slice(None)] * data.dim()
    first, last = vector(starts), vector(ends)
    chosen = range(len(first)) if axes is None else vector(axes)
    paces = (1,) * len(first) if steps is None else vector(steps)
    for start, end, axis, step in zip(first, last, chosen, paces, strict=True):
        if step < 0:
            # torch has no such steps: the reversed axis is cut forwards.
            data = data.flip(axis)
            size = data.shape[axis]
            start = size - 1 - min(max(start + size if start < 0 else start, 0), size - 1)
            end = size - 1 - min(max(end + size if end < 0 else end, -1), size - 1)
            step = -step
        runs[axis] = slice(_near(start), _near(end), step)
    return data[tuple(runs)]


def _near(limit: int) -> int:
    """Return a limit that torch takes without a warning; exporters write the largest integer for "to the end"."""
    return limit if isinstance(limit, torch.SymInt) else max(-_FAR, min(limit, _FAR))


@lowers("Gather", folds=True)
def gather_known(site: Site) -> fx.Node:
    """Write the cheapest call for the indices: one that is settled is a view, others may count from the end."""
    axis = site.integer("axis", 0)
    indices, value = site.constant(1), site.inputs[1]
    if indices is not None and indices.ndim == 0:
        return site.call(torch.select, site.tensor(0), axis, int(indices))
    if indices is not None and indices.ndim == 1 and not np.any(np.less(indices, 0)):
        return site.call(torch.index_select, site.tensor(0), axis, site.tensor(1))
    if value is not None and value.array is None and value.numbers is not None and value.rank == 0:
        return site.call(torch.select, site.tensor(0), axis, value.numbers)
    return site.call(gather, site.tensor(0), site.tensor(1), axis)


def gather(data: torch.Tensor, indices: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the slices of one axis that `indices` tell, its axes in place of the one."""
    axis = axis % data.dim()
    rows = data.index_select(axis, from_front(indices, data.shape[axis]).reshape(-1))
    return rows.reshape(data.shape[:axis] + indices.shape + data.shape[axis + 1 :])


@op("GatherElements", since=11)
@widened
def gather_elements(data: torch.Tensor, indices: torch.Tensor, *, axis: int = 0) -> torch.Tensor:
    """Return one number for each index, its other coordinates being where the index stands."""
    return torch.gather(data, axis, from_front(indices, data.shape[axis]))


@op("GatherND", since=11)
def gather_nd(data: torch.Tensor, indices: torch.Tensor, *, batch_dims: int = 0) -> torch.Tensor:
    """Return the slices at coordinates: the last axis of `indices` holds them, the first `batch_dims` go in step."""
    spots = indices.shape[:-1]
    batches = [
        torch.arange(size, device=data.device).reshape([-1 if i == j else 1 for j in range(len(spots))])
        for i, size in enumerate(spots[:batch_dims])
    ]
    return data[(*batches, *indices.unbind(-1))]


@op("Compress", since=9)
def compress(data: torch.Tensor, condition: torch.Tensor, *, axis: int | None = None) -> torch.Tensor:
    """Keep the slices of an axis where the condition holds; what it is too short for is left out."""
    kept = condition.nonzero().reshape(-1)
    return data.reshape(-1).index_select(0, kept) if axis is None else data.index_select(axis, kept)


@op("OneHot", since=9, host=("depth",), still={"values": "they are what on and off mean"})
def one_hot(indices: torch.Tensor, depth: Numbers, values: torch.Tensor, *, axis: int = -1) -> torch.Tensor:
    """Return a new axis that is `values[1]` at the index and `values[0]` elsewhere; indices may count from the end."""
    classes = int(single(depth))
    axis = axis % (indices.dim() + 1)
    places = torch.arange(classes, device=indices.device)
    places = places.reshape([-1 if i == axis else 1 for i in range(indices.dim() + 1)])
    on = from_front(indices, classes).unsqueeze(axis) == places
    return torch.where(on, values[1], values[0])


@op("Trilu", since=14, host=("k",))
@widened
def trilu(x: torch.Tensor, k: Numbers = 0, *, upper: int = 1) -> torch.Tensor:
    """Keep what is on and above (or below) a diagonal."""
    diagonal = single(k)
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)


@op("ReverseSequence", since=10)
def reverse_sequence(
    x: torch.Tensor, lengths: torch.Tensor, *, batch_axis: int = 1, time_axis: int = 0
) -> torch.Tensor:
    """Reverse the first so many steps of each sequence; the rest stay."""
    times = torch.arange(x.shape[time_axis], device=x.device).unsqueeze(1)
    order = torch.where(times < lengths, lengths - 1 - times, times)
    batch = torch.arange(x.shape[batch_axis], device=x.device)
    return x[order, batch] if time_axis == 0 else x[batch.unsqueeze(1), order.T]


@op("NonZero", since=9, gradient=False)
def nonzero(x: torch.Tensor) -> torch.Tensor:
    """Return the coordinates of all numbers but zeros, one row for each axis."""
    return (x != 0).nonzero().T


@op("Unique", since=11, gradient=False)
def unique(
    x: torch.Tensor, *, axis: int | None = None, sorted: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the different numbers or slices, where each first stands, which one each is, and how many there are."""
    found, which, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=axis)
    which, axis = which.reshape(-1), axis or 0
    positions = torch.arange(len(which), device=x.device)
    first = torch.full_like(counts, len(which)).scatter_reduce(0, which, positions, "amin")
    if not sorted:
        order = torch.argsort(first)
        found, first, counts = found.index_select(axis, order), first[order], counts[order]
        which = torch.argsort(order)[which]
    return found, first, which, counts


def from_front(indices: torch.Tensor, size: int) -> torch.Tensor:
    """Return indices counted from the front; ONNX counts negative ones from the end."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)
