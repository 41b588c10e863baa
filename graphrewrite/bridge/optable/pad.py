"""Edges added to tensors or cut off them."""

import torch
from torch import fx

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.host import literal, single
from graphrewrite.bridge.site import Site

_FAST = {"reflect": "reflect", "edge": "replicate"}


@op("Pad")
def pad_fixed(
    x: torch.Tensor, *, pads: tuple[int, ...], mode: str = "constant", value: float = 0.0
) -> torch.Tensor:
    """Pad as before operator set 11: everything is an attribute."""
    return pad(x, pads, value, mode=mode)


@lowers("Pad", since=11, host=(1, 3), still={2: "it is what padding is filled with"}, folds=True)
def pad_known(site: Site) -> fx.Node:
    """Write torch's own call for a settled constant edge of all axes."""
    pads, value, mode = site.constant(1), site.constant(2), site.text("mode", "constant")
    filling = single(literal(value)) if value is not None else site.tensor(2) if site.has(2) else 0
    if mode == "constant" and pads is not None and not site.has(3) and not isinstance(filling, fx.Node):
        return site.call(torch.constant_pad_nd, site.tensor(0), _torch_order(tuple(pads.tolist())), filling)
    return site.call(pad, site.tensor(0), site.numbers(1), filling, site.numbers(3), mode=mode)


def pad(
    x: torch.Tensor,
    pads: tuple[int, ...],
    value: torch.Tensor | float = 0,
    axes: tuple[int, ...] | None = None,
    mode: str = "constant",
) -> torch.Tensor:
    """Add edges: first all in front, then all behind; negative ones cut off, before the others are added."""
    around = [(0, 0)] * x.dim()
    count = len(pads) // 2
    for i, axis in enumerate(range(count) if axes is None else axes):
        around[axis] = (pads[i], pads[count + i])
    if mode == "constant":
        edges = _torch_order((*(front for front, _ in around), *(behind for _, behind in around)))
        if not isinstance(value, torch.Tensor):
            return torch.constant_pad_nd(x, edges, value)
        inside = torch.nn.functional.pad(torch.ones_like(x, dtype=torch.bool), edges, value=False)
        return torch.where(inside, torch.nn.functional.pad(x, edges), value.reshape(()))
    for axis, (front, behind) in enumerate(around):
        if front < 0 or behind < 0:
            size = x.shape[axis] + min(front, 0) + min(behind, 0)
            x = x.narrow(axis, max(-front, 0), size)
            around[axis] = (max(front, 0), max(behind, 0))
    return _torch_edges(x, around, mode) if _torch_can(x, around, mode) else _edges(x, around, mode)


def _torch_order(pads: tuple[int, ...]) -> list[int]:
    """Return edges as torch counts them: the last axis first, both ends together, untouched ones left out."""
    count = len(pads) // 2
    ordered = [pads[i + end] for i in range(count - 1, -1, -1) for end in (0, count)]
    while len(ordered) > 2 and ordered[-2:] == [0, 0]:
        del ordered[-2:]
    return ordered


def _torch_can(x: torch.Tensor, around: list[tuple[int, int]], mode: str) -> bool:
    """Whether torch's own padding does it: images of floats, one reflection."""
    if mode not in _FAST or not x.is_floating_point() or not 3 <= x.dim() <= 5 or 0 in x.shape:
        return False
    if around[0] != (0, 0) or around[1] != (0, 0):
        return False
    return mode == "edge" or all(
        max(edges) < size for edges, size in zip(around[2:], x.shape[2:], strict=True)
    )


def _torch_edges(x: torch.Tensor, around: list[tuple[int, int]], mode: str) -> torch.Tensor:
    edges = [edge for edges in around[:1:-1] for edge in edges]
    return torch.nn.functional.pad(x, edges, mode=_FAST[mode])


def _edges(x: torch.Tensor, around: list[tuple[int, int]], mode: str) -> torch.Tensor:
    """Pick each number of the edges from where it stands in the tensor, axis by axis."""
    for axis, (front, behind) in enumerate(around):
        if front == 0 and behind == 0:
            continue
        size = x.shape[axis]
        places = torch.arange(-front, size + behind, device=x.device)
        if mode == "wrap":
            places = places % size
        elif mode == "edge":
            places = places.clamp(0, size - 1)
        else:
            period = max(2 * size - 2, 1)
            places = places % period
            places = torch.where(places < size, places, period - places)
        x = x.index_select(axis, places)
    return x


@op("CenterCropPad", since=18, host=("shape",))
def center_crop_pad(
    x: torch.Tensor, shape: tuple[int, ...], *, axes: tuple[int, ...] | None = None
) -> torch.Tensor:
    """Cut axes down to a size around their centre, or fill them up with zeros on both sides."""
    chosen = tuple(range(x.dim())) if axes is None else axes
    pads = [0] * (2 * len(chosen))
    for i, axis in enumerate(chosen):
        missing = shape[i] - x.shape[axis]
        # An odd one is cut behind the centre and added behind it.
        pads[i] = missing // 2 if missing >= 0 else -((-missing) // 2)
        pads[len(chosen) + i] = missing - pads[i]
    return pad(x, tuple(pads), 0, chosen)
