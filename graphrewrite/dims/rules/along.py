"""Operators that work along some axes in the order of their positions and let the others pass."""

from math import prod

from graphrewrite.cost.rules.signal import fast_transform
from graphrewrite.dims.axes import Axis, rigid
from graphrewrite.dims.rules.contrib import MICROSOFT
from graphrewrite.dims.sweep import Step, rule

_ORDER = "positions are worked on in their order"


@rule("ReverseSequence")
def reverse_sequence(s: Step) -> None:
    """Steps turn round, a number of them per sample."""
    x = s.forced(s.axes(0))
    for name, default in (("batch_axis", 1), ("time_axis", 0)):
        s.pin(x[s.integer(name, default) % len(x)], _ORDER)
    s.out(x)


@rule("DFT")
def fourier(s: Step) -> None:
    """A transform along one axis; the last holds real and imaginary parts."""
    x = s.forced(s.axes(0))
    along = [s.integer("axis", 1)] if not s.has(2) else s.numbers(2)
    if not s.has(2) and s.opset >= 20:
        along = [-2]
    if along is None:
        s.refuse("the axis of the transform is not known")
        return
    number = along[0] % len(x)
    lines = [axis for i, axis in enumerate(x[:-1]) if i != number]
    s.macs(fast_transform(_length(s, x[number].sizes[0])), lines)
    _crossed(s, x, [number, len(x) - 1])


def _length(s: Step, size: int) -> int:
    """Return the length of the transform: what is asked for, or the length of the axis."""
    asked = s.numbers(1)
    whole = s.integer("inverse", 0) and s.integer("onesided", 0)
    return asked[0] if asked else 2 * (size - 1) if whole else size


@rule("CenterCropPad")
def center_crop_pad(s: Step) -> None:
    """Axes that are named get another length, the middle stays."""
    x = s.forced(s.axes(0))
    _crossed(s, x, [axis % len(x) for axis in s.integers("axes") or range(len(x))])


def _crossed(s: Step, x: list[Axis], along: list[int]) -> None:
    """Pin some axes, which come out as long as they may; hand the others on."""
    for number in along:
        s.pin(x[number], _ORDER)
    sizes = s.out_sizes()
    s.out([rigid(sizes[i], _ORDER) if i in along else axis for i, axis in enumerate(x)])


@rule("Det")
@rule("Inverse", domain=MICROSOFT)
def matrices(s: Step) -> None:
    """One number, or one matrix, for each square matrix of the last two axes."""
    x = s.forced(s.axes(0))
    for axis in x[-2:]:
        s.pin(axis, "rows and columns of a square matrix")
    s.out(x[:-2] if s.node.op == "Det" else x)


@rule("Col2Im")
def columns_to_image(s: Step) -> None:
    """Channels times the positions of a block, [batch, C * block, blocks], become an image [batch, C, ...]."""
    x, block = s.forced(s.axes(0)), s.numbers(2)
    if block is None:
        s.refuse("the size of the blocks is not known")
        return
    channel, place = s.digits(x[1], [x[1].sizes[0] // prod(block), prod(block)])
    s.pin(place, "positions of a block")
    s.pin(x[2], "blocks of an image")
    s.out([x[0], channel, *(rigid(pair) for pair in s.out_sizes()[2:])])


@rule("TensorScatter")
def write_into_cache(s: Step) -> None:
    """New entries go into a cache at places along one axis; the others are the same in both."""
    cache, update = s.forced(s.axes(0)), s.forced(s.axes(1))
    along = s.integer("axis", -2) % len(cache)
    for number, (mine, its) in enumerate(zip(cache, update, strict=True)):
        if number in (0, along):
            s.pin(mine, "places in a cache")
            s.pin(its, "places in a cache")
        else:
            s.tie(mine, its)
    s.out(cache)
