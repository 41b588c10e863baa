"""Pictures made larger or smaller."""

from collections.abc import Sequence

import torch
from torch import fx
from torch.nn import functional

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.resample import Reading, Stretch, resample
from graphrewrite.bridge.site import Site

# Names of torch's own interpolations by ours and the number of axes; only those that agree to rounding.
_TORCH = {
    ("linear", 1): "linear",
    ("linear", 2): "bilinear",
    ("linear", 3): "trilinear",
    ("cubic", 2): "bicubic",
}
_CORNERS = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}


@lowers("Resize", since=11, host=(1, 2, 3))
def resize(site: Site) -> fx.Node:
    """Write torch's own interpolation where it reads the same places; everything else goes axis by axis."""
    reading = Reading(
        mode=site.text("mode", "nearest"),
        coordinates=site.text("coordinate_transformation_mode", "half_pixel"),
        nearest=site.text("nearest_mode", "round_prefer_floor"),
        cubic=site.number("cubic_coeff_a", -0.75),
        exclude_outside=bool(site.integer("exclude_outside", 0)),
        antialias=bool(site.integer("antialias", 0)),
        extrapolation=site.number("extrapolation_value", 0.0),
    )
    axes = site.integers("axes") if "axes" in site.attributes else None
    scales = site.constant(2)
    if scales is not None and scales.size and axes is None and not reading.antialias:
        whole = _whole_factors(tuple(scales.reshape(-1).tolist()), reading)
        if whole is not None:
            return site.call(functional.interpolate, site.tensor(0), None, *whole)
    cropped = reading.coordinates == "tf_crop_and_resize"
    return site.call(
        resized,
        site.tensor(0),
        site.numbers(1) if cropped else None,
        site.numbers(2),
        site.numbers(3),
        reading,
        axes,
        site.text("keep_aspect_ratio_policy", "stretch"),
    )


def resized(
    x: torch.Tensor,
    roi: Sequence[float] | None,
    scales: Sequence[float] | None,
    sizes: Sequence[int] | None,
    reading: Reading,
    axes: Sequence[int] | None = None,
    policy: str = "stretch",
) -> torch.Tensor:
    """Stretch the given axes by scales or to sizes; `roi` holds all starts, then all ends."""
    places = range(x.dim()) if axes is None else [axis % x.dim() for axis in axes]
    starts = roi[: len(places)] if roi else [0.0] * len(places)
    ends = roi[len(places) :] if roi else [1.0] * len(places)
    stretches = {}
    if sizes:
        if policy == "stretch" and roi is None and (y := _by_torch(x, sizes, places, reading)) is not None:
            return y
        wanted = _sized(x, sizes, places, policy)
        for axis, (size, scale, width), start, end in zip(places, wanted, starts, ends, strict=True):
            stretches[axis] = Stretch(size, scale, width, start, end)
    elif scales:
        for axis, scale, start, end in zip(places, scales, starts, ends, strict=True):
            width = scale * x.shape[axis]
            stretches[axis] = Stretch(torch.sym_int(width), scale, width, start, end)
    y = x if x.is_floating_point() or reading.mode == "nearest" else x.double()
    for axis, stretch in stretches.items():
        # Nothing changes along most axes.
        if stretch.scale != 1 or stretch.size != x.shape[axis] or (stretch.start, stretch.end) != (0, 1):
            y = resample(y, axis, stretch, reading)
    if y.dtype != x.dtype:
        limits = torch.iinfo(x.dtype)
        y = y.round().clamp(limits.min, limits.max).to(x.dtype)
    return y


@op("Resize", since=10, host=("scales",))
@op("Upsample", since=9, host=("scales",))
def upsample(x: torch.Tensor, scales: tuple[float, ...], *, mode: str = "nearest") -> torch.Tensor:
    """Stretch from the first corner on, as before version 11; nearest takes the pixel after when shrinking."""
    return resized(x, None, scales, None, Reading(mode, "asymmetric", "simple"))


@op("Upsample", since=7)
def upsample_by_attribute(
    x: torch.Tensor, *, scales: tuple[float, ...], mode: str = "nearest"
) -> torch.Tensor:
    """Do so by factors that are an attribute."""
    return upsample(x, scales, mode=mode)


def _whole_factors(
    scales: Sequence[float], reading: Reading
) -> tuple[tuple[float, ...], str, bool | None] | None:
    """Return scale factors, mode and corners of torch's interpolation for pictures repeated whole times, or None."""
    factors = tuple(scales[2:])
    if not 1 <= len(factors) <= 3 or any(scale != 1 for scale in scales[:2]):
        return None
    if any(factor < 2 or factor != int(factor) for factor in factors):
        return None
    if reading.mode == "nearest":
        centred = reading.coordinates in ("half_pixel", "pytorch_half_pixel")
        repeats = (reading.nearest.startswith("round") and centred) or (
            reading.nearest == "floor" and reading.coordinates == "asymmetric"
        )
        # torch multiplies by the inverse in float32, which must not be too small.
        exact = all(float(torch.tensor(1.0 / factor)) * factor >= 1.0 for factor in factors)
        return (factors, "nearest", None) if repeats and exact else None
    found = _mode_of_torch(len(factors), reading)
    return None if found is None else (factors, *found)


def _mode_of_torch(rank: int, reading: Reading) -> tuple[str, bool] | None:
    """Return torch's mode and corners for a linear or cubic reading that it shares."""
    plain = not reading.exclude_outside and not reading.antialias
    if not plain or (reading.mode == "cubic" and reading.cubic != -0.75):
        return None
    mode, corners = _TORCH.get((reading.mode, rank)), _CORNERS.get(reading.coordinates)
    return None if mode is None or corners is None else (mode, corners)


def _by_torch(
    x: torch.Tensor, sizes: Sequence[int], axes: Sequence[int], reading: Reading
) -> torch.Tensor | None:
    """Return torch's own interpolation to sizes where it reads the same places."""
    wanted = list(x.shape)
    for axis, size in zip(axes, sizes, strict=True):
        wanted[axis] = size
    found = _mode_of_torch(x.dim() - 2, reading)
    if found is None or not x.is_floating_point() or wanted[:2] != list(x.shape[:2]):
        return None
    # The one pixel of pytorch_half_pixel is read elsewhere.
    if reading.coordinates == "pytorch_half_pixel" and 1 in wanted[2:]:
        return None
    return functional.interpolate(x, wanted[2:], None, *found)


def _sized(
    x: torch.Tensor, sizes: Sequence[int], axes: Sequence[int], policy: str
) -> list[tuple[int, float, float]]:
    """Return size, scale and width of each axis; a policy other than "stretch" keeps the picture's proportions."""
    scales = [size / x.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
    if policy == "stretch":
        return [(size, scale, size) for size, scale in zip(sizes, scales, strict=True)]
    scale = min(scales) if policy == "not_larger" else max(scales)
    widths = [scale * x.shape[axis] for axis in axes]
    return [(torch.sym_int(width + 0.5), scale, width) for width in widths]
