"""Blocks on feature maps [N, C, H, W] that look at a whole channel, or at all channels, at once: gates and norms."""

from typing import Any

import numpy as np

from tests.support.blocks import block
from tests.support.blocks_map import divisor, width
from tests.support.drawing import Drawing, Drawn


@block("map")
def squeeze_excite(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(1)
    if d.chance(0.5):
        y = d.op("GlobalAveragePool", x, shape=(x.shape[0], c, 1, 1))
        y = d.conv(d.activate(d.conv(y, max(2, c // 2), 1)), c, 1)
        return d.mul(x, d.unary("Sigmoid", y))
    y = d.reduce("ReduceMean", x, 2, 3, keep=False)
    y = d.linear(d.activate(d.linear(y, max(2, c // 2))), c)
    y = (
        d.unsqueeze(d.unary("Sigmoid", y), 2, 3)
        if d.chance(0.5)
        else d.reshape(d.unary("Sigmoid", y), 0, c, 1, 1)
    )
    return d.mul(x, y)


@block("map")
def spatial_attention(d: Drawing, x: Drawn) -> Drawn:
    """A map of where, from mean and maximum over the channels."""
    both = d.concat(d.reduce("ReduceMean", x, 1), d.reduce("ReduceMax", x, 1))
    return d.mul(x, d.unary("Sigmoid", d.conv(both, 1)))


@block("map")
def softmax_over_channels(d: Drawing, x: Drawn) -> Drawn:
    """Normalise over the channels of each place; before 13 over channels and space together."""
    y = d.conv(x, width(d), 1)
    return d.mul(y, d.op("Softmax", y, shape=y.shape, axis=1))


@block("map")
def instance_norm(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(1)
    return d.conv(
        d.op("InstanceNormalization", x, d.floats(c, offset=1.0), d.floats(c), shape=x.shape), width(d)
    )


@block("map")
def group_norm_by_reshape(d: Drawing, x: Drawn) -> Drawn:
    g = divisor(d, x.size(1))
    y = d.reshape(x, 0, g, -1)
    y = Drawn(y.tensor, (x.shape[0], g, x.size(1) // g * x.size(2) * x.size(3)))
    y = d.op(
        "InstanceNormalization",
        y,
        d.const(np.ones(g, np.float32)),
        d.const(np.zeros(g, np.float32)),
        shape=y.shape,
    )
    y = d.reshape(y, 0, x.size(1), x.size(2), x.size(3))
    y = d.add(
        d.mul(y, d.floats(x.size(1), 1, 1, scale=0.2, offset=1.0)), d.floats(x.size(1), 1, 1, scale=0.2)
    )
    return d.activate(y)


@block("map", since=21)
def group_norm(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(1)
    return d.op(
        "GroupNormalization", x, d.floats(c, offset=1.0), d.floats(c), shape=x.shape, num_groups=divisor(d, c)
    )


@block("map")
def channels_last(d: Drawing, x: Drawn) -> Drawn:
    """Transpose, normalise and mix the channels as the last axis, transpose back."""
    c = x.size(1)
    y = d.layer_norm(d.transpose(x, 0, 2, 3, 1))
    y = d.linear(d.activate(d.linear(y, 2 * d.pick(2, 4))), c)
    return d.add(x, d.transpose(y, 0, 3, 1, 2))


@block("map")
def channel_norm_written_out(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(1)
    return d.add(
        d.mul(d.standardise(x, 1), d.floats(c, 1, 1, scale=0.2, offset=1.0)), d.floats(c, 1, 1, scale=0.2)
    )


@block("map", since=13)
def quantised(d: Drawing, x: Drawn) -> Drawn:
    """A convolution between pairs of QuantizeLinear and DequantizeLinear, its weight scaled per channel."""
    out, c = width(d), x.size(1)
    zero = d.const(np.uint8(128))
    y = _round_trip(d, x, d.scalar(0.05), zero)
    scale = d.const((0.005 + 0.01 * d.rng.random(out)).astype(np.float32))
    w = d.const(d.rng.integers(-100, 100, (out, c, 3, 3)).astype(np.int8))
    axis: dict[str, Any] = {"axis": 0}
    w = d.op("DequantizeLinear", w, scale, d.const(np.zeros(out, dtype=np.int8)), shape=w.shape, **axis)
    return _round_trip(d, d.unary("Relu", d.conv(y, out, weight=w)), d.scalar(0.1), zero)


def _round_trip(d: Drawing, x: Drawn, scale: Drawn, zero: Drawn) -> Drawn:
    return d.op(
        "DequantizeLinear", d.op("QuantizeLinear", x, scale, zero, shape=x.shape), scale, zero, shape=x.shape
    )
