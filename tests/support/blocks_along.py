"""Blocks that work along one axis in the order of its positions, gather items into sequences, or pool odd ways."""

from typing import Any

import numpy as np

from tests.support.blocks import block
from tests.support.drawing import Drawing, Drawn, Unfit


def fixed(x: Drawn, *axes: int) -> None:
    if not all(isinstance(x.shape[axis], int) for axis in axes):
        raise Unfit("a size that is not fixed")


@block("seq")
def reversed_steps(d: Drawing, x: Drawn) -> Drawn:
    """The first few steps of each sample turn round."""
    fixed(x, 0, 1)
    lengths = d.const(d.rng.integers(1, x.size(1) + 1, x.size(0)))
    return d.op("ReverseSequence", x, lengths, shape=x.shape, batch_axis=0, time_axis=1)


@block("seq", since=18)
def cropped_steps(d: Drawing, x: Drawn) -> Drawn:
    fixed(x, 1)
    time = d.pick(3, 5, 7)
    return d.op("CenterCropPad", x, d.ints(time), shape=(x.shape[0], time, x.size(2)), axes=[1])


@block("seq", since=17)
def spectrum(d: Drawing, x: Drawn) -> Drawn:
    """Squares of real and imaginary parts along the steps, summed."""
    fixed(x, 1)
    wide, shape = d.unsqueeze(x, 3), (*x.shape, 2)
    if d.opset >= 20:
        y = d.op("DFT", wide, None, d.const(np.int64(1)), shape=shape)
    else:
        y = d.op("DFT", wide, shape=shape, axis=1)
    return d.reduce("ReduceSum", d.mul(y, y), 3, keep=False)


@block("seq")
def running_product(d: Drawing, x: Drawn) -> Drawn:
    """Determinants of small matrices, one for each step and feature."""
    c = x.size(2)
    cells = d.linear(x, 4 * c)
    matrices = d.reshape(cells, 0, x.shape[1], c, 4)
    if not all(isinstance(size, int) for size in x.shape[1:]):
        raise Unfit("a size that is not fixed")
    return d.op("Det", d.reshape(matrices, 0, x.shape[1], c, 2, 2), shape=x.shape)


@block("seq")
@block("flat")
def through_a_sequence(d: Drawing, x: Drawn) -> Drawn:
    """Three tensors in a sequence, one of them taken out again, the others joined."""
    axis = len(x.shape) - 1
    items = [x, d.linear(x, x.size(axis)), d.unary("Tanh", x)]
    if d.chance(0.5):
        row = d.op("SequenceConstruct", *items, shape=())
    else:
        row = d.op("SequenceEmpty", shape=(), dtype=1)
        for item in items:
            row = d.op("SequenceInsert", row, item, shape=())
    row = d.op("SequenceErase", row, d.const(np.int64(1)), shape=())
    shape = (*x.shape[:-1], 2 * x.size(axis))
    return d.op("ConcatFromSequence", row, shape=shape, axis=axis)


@block("map", "flat", until=21)
def pooled_to_one(d: Drawing, x: Drawn) -> Drawn:
    kind = str(d.rng.choice(["GlobalMaxPool", "GlobalLpPool"]))
    return d.op("Flatten", d.op(kind, x, shape=(*x.shape[:2], 1, 1)), shape=x.shape[:2], axis=1)


@block("map")
def unpooled(d: Drawing, x: Drawn) -> Drawn:
    """The largest of four, put back where it was."""
    if any(not isinstance(size, int) or size % 2 for size in x.shape[2:]):
        raise Unfit("halves")
    half = (*x.shape[:2], x.size(2) // 2, x.size(3) // 2)
    attrs: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    y, places = d.ops("MaxPool", x, shapes=[half, half], **attrs)
    return d.op("MaxUnpool", y, places, shape=x.shape, **attrs)


@block("map", since=16, until=21)
def resampled(d: Drawing, x: Drawn) -> Drawn:
    """Read at places that are the same for every channel, and at regions."""
    fixed(x, 0)
    n, c = x.size(0), x.size(1)
    if d.chance(0.5):
        grid = d.const((d.rng.random((n, 4, 4, 2)) * 1.6 - 0.8).astype(np.float32))
        return d.op("GridSample", x, grid, shape=(n, c, 4, 4))
    regions = d.const(np.array([[0, 0, 3, 3], [1, 1, 4, 4]], np.float32)[:n])
    batch = d.const(np.arange(n)[:2])
    return d.op("RoiAlign", x, regions, batch, shape=(min(n, 2), c, 3, 3), output_height=3, output_width=3)


@block("map", since=19)
def deformed(d: Drawing, x: Drawn) -> Drawn:
    """A convolution that reads beside its places, by offsets that another one computes."""
    out, c = d.pick(4, 6), x.size(1)
    offsets = d.mul(d.unary("Tanh", d.conv(x, 18, 3)), d.scalar(0.4))
    return d.op(
        "DeformConv", x, d.floats(out, c, 3, 3), offsets, d.floats(out), shape=(x.shape[0], out, *x.shape[2:]),
        kernel_shape=[3, 3], pads=[1, 1, 1, 1],
    )  # fmt: skip


@block("seq", "map", since=18)
def folded_columns(d: Drawing, x: Drawn) -> Drawn:
    """Two by two blocks for four places of an image of 4 x 4."""
    c = d.pick(3, 4)
    fixed(x, 1)
    y = d.transpose(d.linear(d.slice(x, 1, 0, 4), 4 * c), 0, 2, 1) if x.size(1) >= 4 else None
    if y is None:
        raise Unfit("short")
    return d.op("Col2Im", y, d.ints(4, 4), d.ints(2, 2), shape=(x.shape[0], c, 4, 4), strides=[2, 2])


@block("map", since=13)
def whole_numbers(d: Drawing, x: Drawn) -> Drawn:
    """A convolution of bytes, brought back to floats."""
    out, c = d.pick(4, 6), x.size(1)
    scale = d.scalar(0.02)
    byte = d.op("QuantizeLinear", d.unary("Tanh", x), scale, d.const(np.uint8(128)), shape=x.shape)
    weight = d.const(d.rng.integers(0, 255, (out, c, 3, 3)).astype(np.uint8))
    attrs: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    shape = (x.shape[0], out, *x.shape[2:])
    y = d.op(
        "ConvInteger", byte, weight, d.const(np.uint8(128)), d.const(np.uint8(127)), shape=shape, **attrs
    )
    return d.mul(d.unary("Cast", y, to=1), d.scalar(1e-4))
