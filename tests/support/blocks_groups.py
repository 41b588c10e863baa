"""Blocks that work in groups of several members: each may lose its own, or die as a whole."""

from tests.support.blocks import block
from tests.support.blocks_map import small
from tests.support.drawing import Drawing, Drawn


def _normed(d: Drawing, x: Drawn, count: int) -> Drawn:
    """Standardise groups by an operator of instances or in primitives, the block laid out in one way or another."""
    n, c, h, w = x.shape[0], x.size(1), x.size(2), x.size(3)
    if d.chance(0.5):
        y = d.regroup(x, (0, count, -1), (n, count, c // count * h * w))
        vectors = d.floats(count, offset=1.0), d.floats(count)
        y = d.op("InstanceNormalization", y, *vectors, shape=y.shape)
    elif d.chance(0.5):
        y = d.regroup(x, (0, count, c // count, -1), (n, count, c // count, h * w))
        y = d.standardise(y, 2, 3)
    else:
        y = d.standardise(d.regroup(x, (0, count, -1), (n, count, c // count * h * w)), 2)
    return d.regroup(y, (0, c, h, w), x.shape)


@block("map")
def norms_of_groups(d: Drawing, x: Drawn) -> Drawn:
    """A wide layer, and one or two norms over groups of different sizes."""
    small(x)
    y = _normed(d, d.conv(x, 24, 1), d.pick(2, 3, 4, 6))
    if d.chance(0.5):
        y = _normed(d, d.activate(y), d.pick(2, 3, 4))
    return d.conv(d.activate(y), d.pick(4, 6, 8), 1)


@block("map")
def groups_behind_groups(d: Drawing, x: Drawn) -> Drawn:
    """A grouped convolution, a norm or another one behind it: several demands on one axis."""
    small(x)
    y = d.conv(d.activate(d.conv(x, 24, 1)), 24, 1, group=d.pick(2, 3, 4, 6), bias=d.chance(0.5))
    y = _normed(d, y, d.pick(2, 3, 4)) if d.chance(0.5) else d.conv(y, 16, 1, group=d.pick(2, 4))
    return d.conv(d.activate(y), d.pick(4, 6, 8), 1)
