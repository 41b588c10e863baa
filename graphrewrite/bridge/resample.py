"""One axis of a tensor read at other places: nearest, linear or cubic, as ONNX's Resize defines it.

Places are worked out in float32, as onnxruntime does: where one falls between two pixels, rounding decides.
"""

import math
from typing import NamedTuple

import torch


class Reading(NamedTuple):
    """How places between pixels are found and read; the names are those of Resize."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    extrapolation: float = 0.0


class Stretch(NamedTuple):
    """How one axis changes: its new size, the factor that was asked for, and which part of it is read (0 to 1)."""

    size: int
    scale: float
    width: float
    start: float = 0.0
    end: float = 1.0


def resample(x: torch.Tensor, axis: int, stretch: Stretch, reading: Reading) -> torch.Tensor:
    """Return `x` with one axis stretched; floats stay in their type, and gradients flow to all pixels read."""
    length = x.shape[axis]
    place = _places(length, stretch, reading, x.device)
    if reading.mode == "nearest":
        y = x.index_select(axis, _nearest(place, stretch, reading.nearest).clamp(0, length - 1))
    else:
        y = _weighted(x, axis, place, stretch.scale, reading)
    if reading.coordinates != "tf_crop_and_resize":
        return y
    outside = (place < 0) | (place > length - 1)
    return y.masked_fill(_along(outside, axis, x.dim()), reading.extrapolation)


def _places(length: int, stretch: Stretch, reading: Reading, device: torch.device) -> torch.Tensor:
    """Return where on the old axis each new pixel is read."""
    new = torch.arange(stretch.size, device=device, dtype=torch.float32)
    width, kind = stretch.width, reading.coordinates
    if kind == "asymmetric":
        return new / stretch.scale
    if kind == "align_corners":
        return new * 0.0 if width == 1 else new * (length - 1) / (width - 1)
    if kind == "tf_crop_and_resize":
        start, end = stretch.start * (length - 1), stretch.end * (length - 1)
        last = stretch.size - 1
        return start + new * ((end - start) / last) if last else new + 0.5 * (start + end)
    if kind == "pytorch_half_pixel" and stretch.size == 1:
        return new * 0.0
    place = (new + 0.5) / stretch.scale
    if kind == "half_pixel_symmetric":
        place = place + length / 2 * (1 - stretch.size / width)
    return place - 0.5


def _nearest(place: torch.Tensor, stretch: Stretch, how: str) -> torch.Tensor:
    if how == "ceil" or (how == "simple" and stretch.scale < 1):
        return place.ceil().long()
    if how == "round_prefer_floor":
        return (place - 0.5).ceil().long()
    if how == "round_prefer_ceil":
        return (place + 0.5).floor().long()
    return place.floor().long()


def _weighted(
    x: torch.Tensor, axis: int, place: torch.Tensor, scale: float, reading: Reading
) -> torch.Tensor:
    """Return sums of the pixels around each place."""
    length = x.shape[axis]
    support = 1 if reading.mode == "linear" else 2
    shrink, first = 1.0, 1 - support
    if reading.antialias and scale < 1:
        shrink, first = scale, math.floor(-support / scale) + 1
    # A place on a pixel counts that pixel as the one after it.
    left = place.ceil() - 1
    taps = torch.arange(first, 2 - first, device=x.device)
    distance = ((taps - (place - left)[:, None]) * shrink).abs()
    weights = (1 - distance).clamp_min(0.0) if support == 1 else _cubic(distance, reading.cubic)
    pixel = left.long()[:, None] + taps
    if reading.exclude_outside:
        weights = weights * ((pixel >= 0) & (pixel < length))
    if reading.exclude_outside or reading.antialias:
        total = weights.sum(1, keepdim=True)
        weights = weights / torch.where(total == 0, 1.0, total)
    pixel, weights = pixel.clamp(0, length - 1), weights.to(x.dtype)
    y = None
    for tap in range(pixel.shape[1]):
        part = x.index_select(axis, pixel[:, tap]) * _along(weights[:, tap], axis, x.dim())
        y = part if y is None else y + part
    assert y is not None
    return y


def _cubic(distance: torch.Tensor, a: float) -> torch.Tensor:
    """The cubic convolution kernel (Keys 1981, equation 4) at distances from 0 on."""
    square, cube = distance**2, distance**3
    near = (a + 2) * cube - (a + 3) * square + 1
    far = a * (cube - 5 * square + 8 * distance - 4)
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))


def _along(values: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    return values.reshape(-1, *(1,) * (rank - 1 - axis))
