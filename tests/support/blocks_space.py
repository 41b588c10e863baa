"""Blocks on signals [N, C, L] ("line") and volumes [N, C, D, H, W] ("volume"): the same code for both ranks."""

from collections.abc import Callable

import numpy as np

from tests.support.blocks import Draw, block
from tests.support.blocks_map import divisor
from tests.support.drawing import Drawing, Drawn, Size, Unfit


def width(d: Drawing) -> int:
    return d.pick(4, 6, 8)


def both(since: int = 11) -> Callable[[Draw], Draw]:
    """File a block for signals and for volumes."""

    def add(draw: Draw) -> Draw:
        block("line", since=since)(draw)
        return block("volume", since=since)(draw)

    return add


def space(x: Drawn) -> list[int]:
    return [x.size(axis) for axis in range(2, len(x.shape))]


def ones(x: Drawn, count: int) -> tuple[Size, ...]:
    return (x.shape[0], count, *[1] * (len(x.shape) - 2))


@both()
def conv_act(d: Drawing, x: Drawn) -> Drawn:
    return d.activate(d.conv(x, width(d), d.pick(1, 3), bias=d.chance(0.6)))


@both()
def conv_bn_relu(d: Drawing, x: Drawn) -> Drawn:
    return d.unary("Relu", d.batch_norm(d.conv(x, width(d), bias=d.chance(0.3))))


@both()
def residual(d: Drawing, x: Drawn) -> Drawn:
    y = d.activate(d.batch_norm(d.conv(x, width(d))))
    return d.add(x, d.conv(y, x.size(1), 1))


@both()
def grouped(d: Drawing, x: Drawn) -> Drawn:
    groups = divisor(d, x.size(1))
    return d.activate(d.conv(x, groups * d.pick(1, 2, 4), group=groups, bias=d.chance(0.5)))


@both()
def depthwise(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(1)
    return d.conv(d.activate(d.conv(x, c * d.pick(1, 2), group=c)), width(d), 1)


@both()
def transposed(d: Drawing, x: Drawn) -> Drawn:
    """Grow the space, in groups now and then."""
    rank, c = len(x.shape) - 2, x.size(1)
    if max(space(x)) > 8:
        raise Unfit("large enough")
    groups, out = divisor(d, c) if d.chance(0.4) else 1, d.pick(2, 3)
    shape = (x.shape[0], groups * out, *(2 * size for size in space(x)))
    weight = d.floats(c, out, *[2] * rank)
    bias = d.floats(groups * out) if d.chance(0.6) else None
    return d.op("ConvTranspose", x, weight, bias, shape=shape, strides=[2] * rank, group=groups)


@both()
def pooled(d: Drawing, x: Drawn) -> Drawn:
    rank = len(x.shape) - 2
    if min(space(x)) < 2:
        raise Unfit("too small")
    kind = str(d.rng.choice(["MaxPool", "AveragePool"]))
    shape = (x.shape[0], x.size(1), *(size // 2 for size in space(x)))
    return d.op(kind, x, shape=shape, kernel_shape=[2] * rank, strides=[2] * rank)


@both()
def dense(d: Drawing, x: Drawn) -> Drawn:
    if x.size(1) > 16:
        raise Unfit("wide enough")
    return d.concat(d.activate(d.conv(x, d.pick(2, 4))), x)


@both()
def excited(d: Drawing, x: Drawn) -> Drawn:
    y = d.op("GlobalAveragePool", x, shape=ones(x, x.size(1)))
    return d.mul(x, d.unary("Sigmoid", d.conv(d.activate(d.conv(y, 3, 1)), x.size(1), 1)))


@both()
def instance_norm(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(1)
    return d.op("InstanceNormalization", x, d.floats(c, offset=1.0), d.floats(c), shape=x.shape)


@both(since=21)
def group_norm(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(1)
    groups = divisor(d, c)
    return d.op(
        "GroupNormalization", x, d.floats(c, offset=1.0), d.floats(c), shape=x.shape, num_groups=groups
    )


@both()
def channel_norm(d: Drawing, x: Drawn) -> Drawn:
    """A norm over the channels, written out."""
    scale = d.floats(x.size(1), *[1] * (len(x.shape) - 2), scale=0.2, offset=1.0)
    return d.conv(d.mul(d.standardise(x, 1), scale), width(d), 1)


@both()
def reversed_channels(d: Drawing, x: Drawn) -> Drawn:
    """Turn the order of the channels round by a Slice with a step of -1 and add."""
    return d.add(d.conv(x, x.size(1), 1), d.slice(x, 1, -1, -(2**31), -1))


@both()
def gated_halves(d: Drawing, x: Drawn) -> Drawn:
    half = d.pick(3, 4)
    a, b = d.split(d.conv(x, 2 * half), [half, half], 1)
    return d.mul(d.unary("Tanh", a), d.unary("Sigmoid", b))


@block("line")
def dilated_residual(d: Drawing, x: Drawn) -> Drawn:
    """A causal convolution with holes, a gate, and two ways on, as in wave nets."""
    hidden, c = d.pick(3, 4), x.size(1)
    padded = d.pad(x, [0, 0, 2, 0, 0, 0])
    weight = d.floats(2 * hidden, c, 2)
    shape = (x.shape[0], 2 * hidden, x.shape[2])
    y = d.op("Conv", padded, weight, d.floats(2 * hidden), shape=shape, dilations=[2], kernel_shape=[2])
    a, b = d.split(y, [hidden, hidden], 1)
    y = d.mul(d.unary("Tanh", a), d.unary("Sigmoid", b))
    return d.concat(d.add(x, d.conv(y, c, 1)), d.conv(y, 3, 1))


@block("map", "volume")
def as_volume(d: Drawing, x: Drawn) -> Drawn:
    """See the channels as channels times depth, or add a depth of one."""
    c, h, w = x.size(1), x.size(2), x.size(3)
    if c % 2 == 0 and d.chance(0.6):
        return d.conv(d.reshape(x, 0, c // 2, 2, h, w), d.pick(3, 4))
    return d.conv(d.unsqueeze(x, 2), d.pick(3, 4))


@block("volume", "map")
def as_map(d: Drawing, x: Drawn) -> Drawn:
    """Merge channels and depth, or take the depth's mean."""
    if d.chance(0.5):
        return d.reduce(str(d.rng.choice(["ReduceMean", "ReduceMax"])), x, 2, keep=False)
    return d.reshape(x, 0, x.size(1) * x.size(2), x.size(3), x.size(4))


@block("volume", "flat")
def volume_pool(d: Drawing, x: Drawn) -> Drawn:
    y = d.op("GlobalAveragePool", x, shape=ones(x, x.size(1)))
    return d.op("Flatten", y, shape=x.shape[:2], axis=1) if d.chance(0.5) else d.reshape(y, 0, x.size(1))


@block("line", "flat")
def line_pool(d: Drawing, x: Drawn) -> Drawn:
    if d.chance(0.5):
        return d.reduce("ReduceMax", x, 2, keep=False)
    return d.squeeze(d.op("GlobalAveragePool", x, shape=ones(x, x.size(1))), 2)


@block("line", "flat")
def line_flatten(d: Drawing, x: Drawn) -> Drawn:
    return d.linear(d.reshape(x, 0, x.size(1) * x.size(2)), width(d))


@block("line", "seq")
def line_to_steps(d: Drawing, x: Drawn) -> Drawn:
    return d.transpose(x, 0, 2, 1)


@block("seq", "line")
def steps_to_line(d: Drawing, x: Drawn) -> Drawn:
    x.size(1)
    return d.transpose(x, 0, 2, 1)


@block("map", "line")
def rows_to_line(d: Drawing, x: Drawn) -> Drawn:
    """Places become one axis, or the rows join the channels."""
    c, h, w = x.size(1), x.size(2), x.size(3)
    return d.reshape(x, 0, c, h * w) if d.chance(0.6) else d.reshape(x, 0, c * h, w)


@block("line", "map")
def line_to_map(d: Drawing, x: Drawn) -> Drawn:
    """A line as a map of one row, or folded when its length is even."""
    length = x.size(2)
    if length % 2 == 0 and d.chance(0.5):
        return d.reshape(x, 0, x.size(1), 2, length // 2)
    return d.conv(d.unsqueeze(x, 2), width(d), 1)


@block("line")
def channel_attention(d: Drawing, x: Drawn) -> Drawn:
    """Weights of channels by a convolution across channels: neighbours mix, so they stay whole."""
    c = x.size(1)
    y = d.transpose(d.op("GlobalAveragePool", x, shape=(x.shape[0], c, 1)), 0, 2, 1)
    y = d.op("Conv", y, d.floats(1, 1, 3), shape=y.shape, kernel_shape=[3], pads=[1, 1])
    return d.mul(x, d.unary("Sigmoid", d.transpose(y, 0, 2, 1)))


@block("line")
def resized_line(d: Drawing, x: Drawn) -> Drawn:
    if x.size(2) > 12:
        raise Unfit("long enough")
    empty = d.const(np.zeros(0, dtype=np.float32))
    scales = d.const(np.array([1, 1, 2], dtype=np.float32))
    shape = (x.shape[0], x.shape[1], 2 * x.size(2))
    return d.op("Resize", x, empty, scales, shape=shape, mode="nearest")
