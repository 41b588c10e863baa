"""Windows that slide over the axes after the first two: where they start, and what is padded for them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from graphrewrite.bridge.site import Site

SAME = ("SAME_UPPER", "SAME_LOWER")


class Windows(NamedTuple):
    """How windows slide, as a node says it; every list has a number for each spatial axis.

    `pads` holds all that is put before, then all that is put after; `auto` may overrule it. An empty `kernel` stands
    for the sizes of a weight that are seen when the node runs. With `centred`, windows that are smaller than their
    strides leave out as much on both sides; otherwise the first begins on the first pixel.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto: str = "NOTSET"
    ceil: bool = False
    centred: bool = False

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.strides)

    def reach(self, axis: int) -> int:
        """Number of places from a window's first to its last."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def fixed(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Return what is padded before and after each axis, or None where that depends on its size."""
        if self.auto == "VALID":
            return (0,) * self.rank, (0,) * self.rank
        if self.auto not in SAME:
            return self.pads[: self.rank], self.pads[self.rank :]
        if not self.kernel or any(stride != 1 for stride in self.strides):
            return None
        halves = [_halves(self.reach(axis) - 1, self.auto) for axis in range(self.rank)]
        return tuple(before for before, _ in halves), tuple(after for _, after in halves)

    def symmetric(self) -> tuple[int, ...] | None:
        """Return what is padded on both sides of each axis, or None where they differ."""
        fixed = self.fixed()
        return fixed[0] if fixed is not None and fixed[0] == fixed[1] else None

    def along(self, axis: int, size: int) -> tuple[int, int, int]:
        """Return what is padded before and after an axis of this size, and the number of windows.

        After rounding up, the last window may begin on the image or the padding before it, never behind them, and may
        reach beyond the padding after it.
        """
        stride, reach = self.strides[axis], self.reach(axis)
        if self.auto in SAME:
            steps = -(-size // stride)
            total = (steps - 1) * stride + reach - size
            return *_halves(total if self.centred else torch.sym_max(0, total), self.auto), steps
        before, after = (0, 0) if self.auto == "VALID" else (self.pads[axis], self.pads[self.rank + axis])
        room = size + before + after - reach
        if not self.ceil:
            return before, after, room // stride + 1
        steps = torch.sym_min(-(-room // stride) + 1, (size + before - 1) // stride + 1)
        return before, after, steps


def windows_of(site: Site, rank: int, kernel: Sequence[int | None] = (), *, centred: bool = False) -> Windows:
    """Return how the windows of a node slide over `rank` axes; `kernel` is what is known without its attribute."""
    sizes = site.integers("kernel_shape") or tuple(size for size in kernel if size is not None)
    return Windows(
        kernel=sizes if len(sizes) == rank else (),
        strides=site.integers("strides") or (1,) * rank,
        dilations=site.integers("dilations") or (1,) * rank,
        pads=site.integers("pads") or (0,) * (2 * rank),
        auto=site.text("auto_pad", "NOTSET"),
        ceil=bool(site.integer("ceil_mode", 0)),
        centred=centred,
    )


def padding(before: Sequence[int], after: Sequence[int]) -> tuple[int, ...]:
    """Return pads in the order of `torch.nn.functional.pad`: the last axis first."""
    return tuple(amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair)


def padded(x: torch.Tensor, windows: Windows, value: float = 0.0) -> torch.Tensor:
    """Pad the spatial axes so that whole windows fit from the first place to the last, and none beside them."""
    before, after = [], []
    for axis in range(windows.rank):
        size = x.shape[2 + axis]
        first, _, steps = windows.along(axis, size)
        before.append(first)
        after.append((steps - 1) * windows.strides[axis] + windows.reach(axis) - size - first)
    return functional.pad(x, padding(before, after), value=value)


def window_sums(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    """Return the sum in each window of a tensor that was padded for them, one axis after the other."""
    for axis in range(windows.rank):
        x = _sums_along(x, 2 + axis, windows.kernel[axis], windows.strides[axis], windows.dilations[axis])
    return x


def _sums_along(x: torch.Tensor, dim: int, kernel: int, stride: int, dilation: int) -> torch.Tensor:
    steps = (x.shape[dim] - (kernel - 1) * dilation - 1) // stride + 1
    total = None
    for tap in range(kernel):
        first = tap * dilation
        places = (slice(None),) * dim + (slice(first, first + (steps - 1) * stride + 1, stride),)
        total = x[places] if total is None else total + x[places]
    assert total is not None
    return total


def _halves(total: int, auto: str) -> tuple[int, int]:
    """Split padding in two; an odd pixel goes after the image or before it. Rounding is towards zero, as in C."""
    if total < 0:
        before = -(-total // 2) if auto == "SAME_UPPER" else -((-total - 1) // 2)
        return before, total - before
    less = total // 2
    return (less, total - less) if auto == "SAME_UPPER" else (total - less, less)
