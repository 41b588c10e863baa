"""Fourier transforms, counted as complex radix-2 transforms: an estimate that does not depend on the runtime."""

from math import prod

from graphrewrite.cost.registry import macs_rule, ops_rule
from graphrewrite.cost.site import Site, Unsized


def fast_transform(length: int) -> int:
    """Return the multiply-accumulates of one transform: (n / 2) log2 n butterflies of four each, log2 n rounded up."""
    return 2 * length * max(length - 1, 0).bit_length()


@macs_rule("DFT")
def dft(site: Site) -> int:
    """One transform for each line along the axis; x is [..., 1 or 2], its last axis real and imaginary part."""
    sizes = site.input(0)
    # until opset 19 the axis was an attribute counted from the front, since then it is an input
    default = -2 if site.opset >= 20 else site.attr("axis", 1)
    axis = _number(site, 2, default) % len(sizes)
    whole = site.attr("inverse", 0) and site.attr("onesided", 0)
    length = _number(site, 1, 2 * (sizes[axis] - 1) if whole else sizes[axis])
    return prod(sizes[:axis]) * prod(sizes[axis + 1 : -1]) * fast_transform(length)


@macs_rule("STFT")
def stft(site: Site) -> int:
    """One transform for each frame: the output is [batch, frames, bins, 2]."""
    frames = prod(site.output()[:2])
    return frames * fast_transform(_frame(site))


@ops_rule("STFT")
def stft_window(site: Site) -> int:
    """Each frame is multiplied by the window, when there is one."""
    return prod(site.output()[:2]) * _frame(site) if site.has(2) else 0


@macs_rule("Rfft", domain="com.microsoft")
def real_transform(site: Site) -> int:
    """One transform along each of the last `signal_ndim` axes of the real input."""
    return _over_axes(site.input(0), site.attr("signal_ndim", 1))


@macs_rule("Irfft", domain="com.microsoft")
def inverse_real_transform(site: Site) -> int:
    """One transform along each of the last `signal_ndim` axes of the real output."""
    return _over_axes(site.output(0), site.attr("signal_ndim", 1))


@macs_rule("ComplexMul", "ComplexMulConj", domain="com.microsoft")
def complex_product(site: Site) -> int:
    """Two real multiply-accumulates for each real or imaginary part of the result."""
    return 2 * site.output_count()


def _over_axes(sizes: tuple[int, ...], axes: int) -> int:
    return sum(prod(sizes) // max(length, 1) * fast_transform(length) for length in sizes[-axes:])


def _frame(site: Site) -> int:
    if site.has(3):
        return _number(site, 3, 0)
    if site.has(2):
        return site.input(2)[0]
    raise Unsized("frame_length")


def _number(site: Site, index: int, default: int) -> int:
    """Return the one number an optional input holds; an unknown number is not a default."""
    if not site.has(index):
        return default
    values = site.numbers(index)
    if values is None:
        raise Unsized(site.node.inputs[index].name)
    return int(values.reshape(-1)[0])
