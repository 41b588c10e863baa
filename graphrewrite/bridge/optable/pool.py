"""Pools over windows and over whole images."""

from collections.abc import Callable

import torch
from torch import fx
from torch.nn import functional

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.windows import Windows, padded, padding, window_sums, windows_of


def average_pool_of_volumes(
    x: torch.Tensor,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    ceil: bool,
    inclusive: bool,
) -> torch.Tensor:
    """Average windows over three axes as torch does, which has no such pool in half precision on a CPU."""
    wide = x.float() if x.itemsize == 2 else x
    found: torch.Tensor = functional.avg_pool3d(wide, kernel, strides, pads, ceil, inclusive)
    return found.to(x.dtype)


MAX: tuple[Callable[..., torch.Tensor], ...] = (torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)
AVERAGE: tuple[Callable[..., torch.Tensor], ...] = (
    functional.avg_pool1d,
    functional.avg_pool2d,
    average_pool_of_volumes,
)
WITH_PLACES: tuple[Callable[..., tuple[torch.Tensor, torch.Tensor]], ...] = (
    functional.max_pool1d_with_indices,
    functional.max_pool2d_with_indices,
    functional.max_pool3d_with_indices,
)


@lowers("MaxPool")
def max_pool(site: Site) -> fx.Node | list[fx.Node]:
    """Write torch's own pool where it pads alike and the numbers are floats."""
    windows = _windows(site)
    x, both, dtype = site.tensor(0), _narrow(windows), site.dtype(0)
    if site.outputs > 1:
        pooled = site.call(max_pool_places, x, windows, bool(site.integer("storage_order", 0)))
        return [site.item(pooled, 0), site.item(pooled, 1)]
    if both is None or dtype is None or dtype.kind in "iu":
        return site.call(max_pool_padded, x, windows)
    run = MAX[windows.rank - 1]
    return site.call(run, x, windows.kernel, windows.strides, both, windows.dilations, windows.ceil)


def max_pool_padded(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    """Take the largest of each window; what is padded is smaller than anything."""
    wide = x if x.is_floating_point() else x.float()
    wide = padded(wide, windows, float("-inf"))
    run = MAX[windows.rank - 1]
    return run(wide, windows.kernel, windows.strides, 0, windows.dilations).to(x.dtype)


def max_pool_places(
    x: torch.Tensor, windows: Windows, columns_first: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the largest of each window, and its place in the whole tensor written out in one row.

    `columns_first` counts the places of an image with the first spatial axis running fastest.
    """
    wide = padded(x if x.is_floating_point() else x.float(), windows, float("-inf"))
    run = WITH_PLACES[windows.rank - 1]
    found, place = run(wide, windows.kernel, windows.strides, 0, windows.dilations)
    index, factor = torch.zeros_like(place), 1
    axes = list(range(windows.rank))
    at: list[torch.Tensor] = [place] * windows.rank
    for axis in reversed(axes):
        size = wide.shape[2 + axis]
        at[axis] = place % size - windows.along(axis, x.shape[2 + axis])[0]
        place = place // size
    for axis in axes if columns_first else reversed(axes):
        index = index + at[axis] * factor
        factor = factor * x.shape[2 + axis]
    images = torch.arange(x.shape[0] * x.shape[1], device=x.device)
    index = index + images.reshape(x.shape[0], x.shape[1], *(1,) * windows.rank) * factor
    return found.to(x.dtype), index


@lowers("AveragePool")
def average_pool(site: Site) -> fx.Node:
    """Write torch's own pool where it pads alike; other pads and dilations add up the windows."""
    windows = _windows(site)
    x, both, inclusive = site.tensor(0), _narrow(windows), bool(site.integer("count_include_pad", 0))
    if both is None or any(step != 1 for step in windows.dilations):
        return site.call(average_pool_padded, x, windows, inclusive)
    run = AVERAGE[windows.rank - 1]
    return site.call(run, x, windows.kernel, windows.strides, both, windows.ceil, inclusive)


def average_pool_padded(x: torch.Tensor, windows: Windows, inclusive: bool) -> torch.Tensor:
    """Divide the sum in each window by the places of the image in it, or with `inclusive` also by those padded."""
    total = window_sums(padded(x, windows), windows)
    for axis in range(windows.rank):
        size = x.shape[2 + axis]
        before, after, steps = windows.along(axis, size)
        first = torch.arange(steps, device=x.device)[:, None] * windows.strides[axis] - before
        place = first + torch.arange(windows.kernel[axis], device=x.device) * windows.dilations[axis]
        there = (place >= -before) & (place < size + after) if inclusive else (place >= 0) & (place < size)
        count = there.sum(1).to(x.dtype)
        total = total / count.reshape(-1, *(1,) * (windows.rank - 1 - axis))
    return total


@lowers("LpPool")
def lp_pool(site: Site) -> fx.Node:
    """Write the p-norm of each window."""
    return site.call(lp_pool_padded, site.tensor(0), _windows(site), site.number("p", 2.0))


def lp_pool_padded(x: torch.Tensor, windows: Windows, p: float) -> torch.Tensor:
    """Take the p-norm of each window; padding adds nothing, and the gradient of an empty window is zero."""
    powers = window_sums(padded(x.abs() ** p, windows), windows)
    positive = powers > 0
    return torch.where(positive, torch.where(positive, powers, 1.0) ** (1.0 / p), 0.0)


@lowers("GlobalAveragePool")
def global_average_pool(site: Site) -> fx.Node:
    """Write the mean of each image."""
    shape = site.shape(0)
    if shape is None or len(shape) < 3:
        return site.call(mean_of_images, site.tensor(0))
    return site.call(torch.mean, site.tensor(0), tuple(range(2, len(shape))), True)


def mean_of_images(x: torch.Tensor) -> torch.Tensor:
    """Average all axes after the first two."""
    return x.mean(tuple(range(2, x.dim())), keepdim=True) if x.dim() > 2 else x


@op("GlobalMaxPool")
def global_max_pool(x: torch.Tensor) -> torch.Tensor:
    """Take the largest number of each image."""
    return x.amax(tuple(range(2, x.dim())), keepdim=True) if x.dim() > 2 else x


@op("GlobalLpPool")
def global_lp_pool(x: torch.Tensor, *, p: float = 2.0) -> torch.Tensor:
    """Take the p-norm of each image."""
    if x.dim() == 2:
        return x.abs()
    found: torch.Tensor = torch.linalg.vector_norm(x, p, tuple(range(2, x.dim())), keepdim=True)
    return found


@op("MaxUnpool", since=9, host=("output_shape",))
def max_unpool(
    x: torch.Tensor,
    indices: torch.Tensor,
    output_shape: tuple[int, ...] | None = None,
    *,
    kernel_shape: tuple[int, ...],
    strides: tuple[int, ...] = (),
    pads: tuple[int, ...] = (),
) -> torch.Tensor:
    """Put each number where it was before a max pool, into zeros.

    Indices count in the tensor that was pooled; in a larger `output_shape` the image stands in the first corner.
    """
    rank = len(kernel_shape)
    strides, pads = strides or (1,) * rank, pads or (0,) * (2 * rank)
    sizes = (
        *x.shape[:2],
        *(
            (x.shape[2 + axis] - 1) * strides[axis] - pads[axis] - pads[rank + axis] + kernel_shape[axis]
            for axis in range(rank)
        ),
    )
    count = 1
    for size in sizes:
        count = count * size
    flat = x.new_zeros(count).scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(sizes)
    if output_shape is None:
        return flat
    after = [wanted - size for wanted, size in zip(output_shape[2:], sizes[2:], strict=True)]
    return functional.pad(flat, padding((0,) * rank, after))


def _windows(site: Site) -> Windows:
    rank = len(site.integers("kernel_shape"))
    if not 1 <= rank <= len(MAX):
        site.refuse(f"torch pools over one to three axes, and kernel_shape has {rank}")
    return windows_of(site, rank, centred=True)


def _narrow(windows: Windows) -> tuple[int, ...] | None:
    """Return pads as torch's pools take them: the same on both sides, half a window at most."""
    both = windows.symmetric()
    fits = both is not None and all(2 * pad <= size for pad, size in zip(both, windows.kernel, strict=True))
    return both if fits else None
