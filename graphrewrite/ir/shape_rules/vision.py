"""Image operators: resize, crops of regions, sampling grids, spectra."""

from fractions import Fraction

import numpy as np

from graphrewrite.ir.shape_rules.call import UINT8, Call, Unknown, axis_of, shape_rule
from graphrewrite.ir.symbols import Dim, Real, Sym, floor_div, sample_of
from graphrewrite.ir.values import Array


@shape_rule("Resize", "Upsample")
def resize(call: Call) -> None:
    """Sizes are given outright or as scales (rounded down), for all axes or some (opset 18)."""
    x = call.known(0)
    out = list(x)
    axes = call.integers("axes")
    places = list(range(len(x))) if axes is None else [axis_of(axis, len(x)) for axis in axes]
    old = call.node.op == "Upsample" or call.opset < 11
    sizes = None if old or not call.has(3) else call.ints(3)
    if not old and call.has(3) and call.shape(3) != (0,):
        if sizes is None:
            raise Unknown
        policy = call.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            sizes = _kept_ratio(call, [x[axis] for axis in places], sizes, policy)
        for axis, size in zip(places, sizes, strict=True):
            out[axis] = size
        call.put(0, out)
        return
    if old and not call.has(1):
        given = call.attribute("scales")
        values: Array = np.asarray(given if given is not None else _legacy_scales(call), dtype=np.float32)
    else:
        found = call.value(1 if old else 2)
        if found is None:
            call.put(0, [call.unknown() for _ in x])
            return
        values = found
    factors = values.reshape(-1).tolist()
    roi = _region(call, len(places))
    for index, (axis, factor) in enumerate(zip(places, factors, strict=True)):
        span = 1.0 if roi is None else roi[index + len(places)] - roi[index]
        out[axis] = times(call, out[axis], factor, span)
    call.put(0, out)


def _legacy_scales(call: Call) -> list[float]:
    return [1.0, 1.0, call.number("height_scale", 1.0), call.number("width_scale", 1.0)]


def _region(call: Call, count: int) -> list[float] | None:
    if call.text("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize" or not call.has(1):
        return None
    found = call.value(1)
    if found is None or found.dtype == object or found.size != 2 * count:
        raise Unknown
    return [float(item) for item in found.reshape(-1).tolist()]


def times(call: Call, size: Dim, factor: object, span: float = 1.0) -> Dim:
    """Return floor(size * span * factor), in the float32 arithmetic of runtimes where it is not exact."""
    if isinstance(factor, Real):
        samples = [_product(sample_of(size, world), factor.sample[world], span) for world in (0, 1)]
        return call.sweep.symbols.make("scaled", (size, factor, span), (samples[0], samples[1]), 0)
    if isinstance(factor, Sym):
        return size * factor
    number = float(factor)  # type: ignore[arg-type]
    if isinstance(size, int):
        return _product(size, number, span) or 0
    exact = Fraction(number)
    if span == 1.0 and exact.denominator <= 64:
        return floor_div(size * exact.numerator, exact.denominator)
    samples = [_product(sample_of(size, world), number, span) for world in (0, 1)]
    return call.sweep.symbols.make("scaled", (size, number, span), (samples[0], samples[1]), 0)


def _product(size: int | None, factor: float | None, span: float) -> int | None:
    if size is None or factor is None:
        return None
    return int(np.floor(np.float32(size) * np.float32(span) * np.float32(factor)))


def _kept_ratio(call: Call, old: list[Dim], new: list[Dim], policy: str) -> list[Dim]:
    """Return sizes scaled by one factor, so that none is larger (or none smaller) than asked for."""
    worlds: list[list[int] | None] = []
    for world in (0, 1):
        before = [sample_of(dim, world) for dim in old]
        after = [sample_of(dim, world) for dim in new]
        if None in before or None in after or 0 in before:
            worlds.append(None)
            continue
        ratios = [b / a for a, b in zip(before, after, strict=True)]  # type: ignore[operator]
        scale = min(ratios) if policy == "not_larger" else max(ratios)
        worlds.append([int(np.floor(a * scale + 0.5)) for a in before])  # type: ignore[operator]
    if not any(isinstance(dim, Sym) for dim in (*old, *new)):
        return list[Dim](worlds[0] or [])
    table = call.sweep.symbols
    key = (policy, *old, *new)
    pairs = [tuple(None if sizes is None else sizes[axis] for sizes in worlds) for axis in range(len(old))]
    return [table.make("ratio kept", (*key, axis), (pair[0], pair[1]), 0) for axis, pair in enumerate(pairs)]


@shape_rule("GridSample")
def grid_sample(call: Call) -> None:
    """Channels of the image, space of the grid."""
    x, grid = call.known(0), call.known(1)
    call.put(0, (x[0], x[1], *grid[1:-1]))


@shape_rule("AffineGrid")
def affine_grid(call: Call) -> None:
    """[batch, space, number of coordinates]."""
    size = call.ints(1)
    if size is None:
        raise Unknown
    call.put(0, (size[0], *size[2:], len(size) - 2))


@shape_rule("RoiAlign", "MaxRoiPool")
def roi_align(call: Call) -> None:
    """One crop per region."""
    x, rois = call.known(0), call.known(1)
    if call.node.op == "MaxRoiPool":
        pooled = call.integers("pooled_shape")
        if pooled is None:
            raise Unknown
        call.put(0, (rois[0], x[1], *pooled))
        return
    call.put(0, (rois[0], x[1], call.integer("output_height", 1), call.integer("output_width", 1)))


@shape_rule("STFT")
def spectrogram(call: Call) -> None:
    """[batch, frames, bins, 2]."""
    x = call.known(0)
    step = call.ints(1)
    window, given = call.shape(2), call.ints(3) if call.has(3) else None
    if step is None or (window is None and given is None):
        raise Unknown
    length = given[0] if given else window[0]  # type: ignore[index]
    bins = length // 2 + 1 if call.integer("onesided", 1) else length
    call.put(0, (x[0], floor_div(x[1] - length, step[0]) + 1, bins, 2))


@shape_rule("DFT")
def fourier(call: Call) -> None:
    """Complex output; half the axis when one-sided, another length when given."""
    x = call.known(0)
    axis = call.integer("axis", 1)
    if call.opset >= 20:
        given = call.numbers(2) if call.has(2) else [-2]
        if given is None:
            raise Unknown
        axis = given[0]
    axis = axis_of(axis, len(x))
    out = list(x)
    if call.has(1):
        length = call.ints(1)
        if length is None:
            raise Unknown
        out[axis] = length[0]
    if call.integer("onesided", 0) and not call.integer("inverse", 0):
        out[axis] = floor_div(out[axis], 2) + 1
    out[-1] = 1 if call.integer("onesided", 0) and call.integer("inverse", 0) else 2
    if call.integer("onesided", 0) and call.integer("inverse", 0) and not call.has(1):
        out[axis] = (x[axis] - 1) * 2
    call.put(0, out)


@shape_rule("ImageDecoder", dtype=UINT8)
def image_decoder(call: Call) -> None:
    """An image of unknown size."""
    channels = 1 if call.text("pixel_format", "RGB") == "Grayscale" else 3
    call.put(0, (call.unknown(), call.unknown(), channels))
