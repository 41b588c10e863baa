"""Numbers written over others at given places; the input stays as it was."""

import math

import torch

from graphrewrite.bridge.forms import op
from graphrewrite.bridge.optable.index import from_front
from graphrewrite.bridge.unsigned import ordered, widened

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
_put, _computed, _compared = (
    widened(torch.scatter),
    widened(torch.scatter_reduce),
    ordered(torch.scatter_reduce),
)


@op("ScatterElements", since=11)
def scatter_elements(
    data: torch.Tensor,
    indices: torch.Tensor,
    updates: torch.Tensor,
    *,
    axis: int = 0,
    reduction: str = "none",
) -> torch.Tensor:
    """Put each update at its index, its other coordinates being where it stands."""
    return _scattered(data, axis, from_front(indices, data.shape[axis]), updates, reduction)


op("Scatter", since=9)(scatter_elements)


@op("ScatterND", since=11)
def scatter_nd(
    data: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor, *, reduction: str = "none"
) -> torch.Tensor:
    """Put slices at coordinates, which the last axis of `indices` holds."""
    depth = indices.shape[-1]
    outer, inner = data.shape[:depth], data.shape[depth:]
    rows = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=data.device)
    for i, size in enumerate(outer):
        rows = rows * size + from_front(indices[..., i], size)
    width = math.prod(inner)
    flat = data.reshape(math.prod(outer), width)
    places = rows.reshape(-1, 1).expand(-1, width)
    return _scattered(flat, 0, places, updates.reshape(places.shape), reduction).reshape(data.shape)


@op("TensorScatter", since=24)
@widened
def tensor_scatter(
    past_cache: torch.Tensor,
    update: torch.Tensor,
    write_indices: torch.Tensor | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> torch.Tensor:
    """Write a run of new entries into a cache, for each sample from an index of its own on."""
    axis = axis % past_cache.dim()
    places = torch.arange(update.shape[axis], device=update.device)
    places = places.reshape([-1 if i == axis else 1 for i in range(update.dim())])
    if write_indices is not None:
        places = places + write_indices.reshape([-1, *(1,) * (update.dim() - 1)])
    if mode == "circular":
        places = places % past_cache.shape[axis]
    return torch.scatter(past_cache, axis, places.expand(update.shape), update)


def _scattered(
    data: torch.Tensor, axis: int, places: torch.Tensor, updates: torch.Tensor, reduction: str
) -> torch.Tensor:
    if reduction == "none":
        return _put(data, axis, places, updates)
    reduced = _compared if reduction in ("max", "min") else _computed
    return reduced(data, axis, places, updates, _REDUCTIONS[reduction])
