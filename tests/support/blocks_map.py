"""Blocks on feature maps [N, C, H, W]."""

import numpy as np

from tests.support.blocks import block
from tests.support.drawing import Drawing, Drawn, Unfit


def width(d: Drawing) -> int:
    return d.pick(4, 6, 8, 12)


def divisor(d: Drawing, size: int) -> int:
    """Return a divisor of a size other than 1 and itself."""
    options = [k for k in range(2, size) if size % k == 0]
    if not options:
        raise Unfit("prime")
    return d.pick(*options)


def small(x: Drawn) -> None:
    """Refuse tensors that further growth would make slow."""
    if x.size(1) > 32 or x.size(2) * x.size(3) > 200:
        raise Unfit("large enough")


@block("map")
def conv_act(d: Drawing, x: Drawn) -> Drawn:
    y = d.conv(x, width(d), d.pick(1, 3), d.pick(1, 1, 2) if x.size(2) > 3 else 1, bias=d.chance(0.6))
    return d.activate(y)


@block("map")
def conv_bn_relu(d: Drawing, x: Drawn) -> Drawn:
    return d.unary("Relu", d.batch_norm(d.conv(x, width(d), bias=d.chance(0.3))))


@block("map")
def residual(d: Drawing, x: Drawn) -> Drawn:
    y = d.activate(d.batch_norm(d.conv(x, width(d))))
    out = x.size(1) if d.chance(0.6) else width(d)
    y = d.conv(y, out)
    short = x if out == x.size(1) else d.conv(x, out, 1)
    return d.activate(d.add(y, short))


@block("map")
def zero_padded_shortcut(d: Drawing, x: Drawn) -> Drawn:
    """Halve the space by slicing and fill the new channels with zeros."""
    grow = d.pick(2, 4)
    if x.size(2) < 4:
        raise Unfit("too small")
    short = d.slice(d.slice(x, 2, 0, x.size(2), 2), 3, 0, x.size(3), 2)
    short = d.pad(short, [0, grow // 2, 0, 0, 0, grow - grow // 2, 0, 0])
    y = d.conv(x, x.size(1) + grow, stride=2)
    return d.unary("Relu", d.add(y, short))


@block("map")
def dense(d: Drawing, x: Drawn) -> Drawn:
    small(x)
    y = d.concat(x, d.activate(d.conv(x, d.pick(2, 3, 4))))
    return d.concat(y, d.activate(d.conv(y, d.pick(2, 4)))) if d.chance(0.5) else y


@block("map")
def branches(d: Drawing, x: Drawn) -> Drawn:
    parts = [d.activate(d.conv(x, d.pick(2, 3, 4), kernel)) for kernel in (1, 3)]
    pooled = d.op("MaxPool", x, shape=x.shape, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
    return d.concat(*parts, d.conv(pooled, 2, 1))


@block("map")
def split_branches(d: Drawing, x: Drawn) -> Drawn:
    """Cut the channels into windows, work on some, join them again."""
    c = x.size(1)
    if c < 4:
        raise Unfit("too thin")
    edge = d.pick(*range(1, c)) if d.chance(0.4) else c // 2
    a, b = d.split(x, [edge, c - edge], 1)
    a = d.activate(d.conv(a, edge))
    return d.concat(b, a) if d.chance(0.5) else d.concat(a, b)


@block("map")
def gated(d: Drawing, x: Drawn) -> Drawn:
    y = d.conv(x, 2 * d.pick(2, 3, 4))
    a, b = d.split(y, [y.size(1) // 2] * 2, 1)
    return d.mul(a, d.unary("Sigmoid", b))


@block("map")
def windows_by_slice(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(1)
    if c < 4:
        raise Unfit("too thin")
    start, step = d.pick(0, 1), d.pick(1, 2)
    a = d.slice(x, 1, start, c - d.pick(0, 1), step)
    b = d.slice(x, 1, -2, np.iinfo(np.int64).max)
    return d.concat(d.conv(a, d.pick(2, 4), 1), b)


@block("map")
def reversed_channels(d: Drawing, x: Drawn) -> Drawn:
    return d.add(d.conv(x, x.size(1), 1), d.slice(x, 1, -1, -(2**31), -1))


@block("map")
def gathered(d: Drawing, x: Drawn) -> Drawn:
    """Pick channels by number: a permutation, a choice, or with repeats."""
    c = x.size(1)
    count = c if d.chance(0.5) else max(2, c // 2)
    index = d.rng.permutation(c)[:count] if d.chance(0.7) else d.rng.integers(-c, c, count)
    dtype = np.int64 if d.chance(0.7) else np.int32
    return d.activate(
        d.op("Gather", x, d.const(index.astype(dtype)), shape=(x.shape[0], count, *x.shape[2:]), axis=1)
    )


@block("map")
def grouped(d: Drawing, x: Drawn) -> Drawn:
    g = divisor(d, x.size(1))
    return d.activate(d.conv(x, g * d.pick(1, 2, 3), group=g, bias=d.chance(0.5)))


@block("map")
def wide_groups(d: Drawing, x: Drawn) -> Drawn:
    """Groups with so many slots that each may lose its own."""
    small(x)
    y = d.activate(d.conv(x, 16, 1))
    y = d.batch_norm(d.conv(y, 16, group=d.pick(2, 4)))
    return d.add(y, d.conv(x, 16, 1)) if d.chance(0.5) else y


@block("map")
def depthwise(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(1)
    y = d.conv(x, c * (d.pick(1, 1, 2) if c <= 12 else 1), group=c)
    return d.conv(d.batch_norm(y), width(d), 1)


@block("map")
def inverted_residual(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(1)
    hidden = 2 * c if c < 10 else c
    y = d.clip(d.batch_norm(d.conv(x, hidden, 1, bias=False)), 0.0, 6.0)
    y = d.clip(d.batch_norm(d.conv(y, hidden, 3, group=hidden, bias=False)), 0.0, 6.0)
    return d.add(x, d.batch_norm(d.conv(y, c, 1, bias=False)))


@block("map")
def shuffled(d: Drawing, x: Drawn) -> Drawn:
    g = divisor(d, x.size(1))
    y = d.reshape(x, 0, g, x.size(1) // g, x.size(2), x.size(3))
    y = d.reshape(d.transpose(y, 0, 2, 1, 3, 4), 0, x.size(1), x.size(2), x.size(3))
    return d.conv(y, width(d)) if d.chance(0.5) else d.add(y, d.conv(x, x.size(1), 1))


@block("map")
def conv_transpose(d: Drawing, x: Drawn) -> Drawn:
    small(x)
    c = x.size(1)
    g = divisor(d, c) if d.chance(0.3) else 1
    out = d.pick(2, 3, 4)
    y = d.op(
        "ConvTranspose", x, d.floats(c, out, 2, 2), d.floats(g * out) if d.chance(0.7) else None,
        shape=(x.shape[0], g * out, 2 * x.size(2), 2 * x.size(3)), strides=[2, 2], kernel_shape=[2, 2], group=g,
    )  # fmt: skip
    return d.activate(y)


@block("map", since=13)
def depth_to_space(d: Drawing, x: Drawn) -> Drawn:
    small(x)
    y = d.conv(x, 4 * d.pick(1, 2, 3))
    mode = "DCR" if d.chance(0.5) else "CRD"
    return d.op(
        "DepthToSpace",
        y,
        shape=(x.shape[0], y.size(1) // 4, 2 * x.size(2), 2 * x.size(3)),
        blocksize=2,
        mode=mode,
    )


@block("map")
def pixel_shuffle_written_out(d: Drawing, x: Drawn) -> Drawn:
    small(x)
    c, h, w = d.pick(2, 3, 4), x.size(2), x.size(3)
    y = d.reshape(d.conv(x, 4 * c), 0, c, 2, 2, h, w)
    return d.reshape(d.transpose(y, 0, 1, 4, 2, 5, 3), 0, c, 2 * h, 2 * w)


@block("map")
def space_to_depth(d: Drawing, x: Drawn) -> Drawn:
    h, w = x.size(2), x.size(3)
    if h % 2 or w % 2 or x.size(1) > 12:
        raise Unfit("odd")
    y = d.op("SpaceToDepth", x, shape=(x.shape[0], 4 * x.size(1), h // 2, w // 2), blocksize=2)
    return d.conv(y, width(d), 1)


@block("map")
def patches_by_slices(d: Drawing, x: Drawn) -> Drawn:
    """Space to depth as four strided slices."""
    h, w = x.size(2), x.size(3)
    if h % 2 or w % 2 or x.size(1) > 12:
        raise Unfit("odd")
    parts = [d.slice(d.slice(x, 2, i, h, 2), 3, j, w, 2) for i in (0, 1) for j in (0, 1)]
    return d.conv(d.concat(*parts), width(d), 1)


@block("map")
def pooled(d: Drawing, x: Drawn) -> Drawn:
    if x.size(2) < 4 or x.size(3) < 4:
        raise Unfit("too small")
    shape = (x.shape[0], x.shape[1], x.size(2) // 2, x.size(3) // 2)
    return d.op(
        "MaxPool" if d.chance(0.5) else "AveragePool", x, shape=shape, kernel_shape=[2, 2], strides=[2, 2]
    )


@block("map")
def resized(d: Drawing, x: Drawn) -> Drawn:
    small(x)
    n, c = x.shape[:2]
    shape = (n, c, 2 * x.size(2), 2 * x.size(3))
    empty = d.const(np.zeros(0, dtype=np.float32))
    mode = "nearest" if d.chance(0.5) else "linear"
    if isinstance(n, int) and d.chance(0.5):
        return d.op(
            "Resize",
            x,
            empty,
            empty,
            d.ints(n, x.size(1), 2 * x.size(2), 2 * x.size(3)),
            shape=shape,
            mode=mode,
        )
    if d.chance(0.3):
        return d.op(
            "Resize",
            x,
            empty,
            empty,
            d.shape_with_batch(x, [x.size(1), shape[2], shape[3]]),
            shape=shape,
            mode=mode,
        )
    return d.op("Resize", x, empty, d.const(np.array([1, 1, 2, 2], dtype=np.float32)), shape=shape, mode=mode)


@block("map")
def weight_standardised(d: Drawing, x: Drawn) -> Drawn:
    """Convolve with a weight that is computed from a stored one."""
    out = width(d)
    w = d.standardise(d.floats(out, x.size(1), 3, 3, scale=1.0), 1, 2, 3)
    return d.activate(d.conv(x, out, weight=d.mul(w, d.floats(out, 1, 1, 1, scale=0.1, offset=0.2))))


@block("map")
def shared_conv(d: Drawing, x: Drawn) -> Drawn:
    """Use one weight twice."""
    c = x.size(1)
    w = d.floats(c, c, 3, 3)
    y = d.activate(d.conv(x, c, weight=w))
    return d.add(x, d.conv(y, c, weight=w))


@block("map")
def prelu(d: Drawing, x: Drawn) -> Drawn:
    return d.op("PRelu", x, d.floats(x.size(1), 1, 1, scale=0.2), shape=x.shape)


@block("map")
def local_response(d: Drawing, x: Drawn) -> Drawn:
    y = d.conv(x, width(d))
    return d.op("LRN", y, shape=y.shape, size=3)


@block("map")
def padded_space(d: Drawing, x: Drawn) -> Drawn:
    mode = "reflect" if d.chance(0.5) and x.size(2) > 1 and x.size(3) > 1 else "constant"
    y = d.pad(x, [0, 0, 1, 1, 0, 0, 1, 1], mode)
    out = width(d)
    return d.op(
        "Conv", y, d.floats(out, x.size(1), 3, 3), shape=(x.shape[0], out, *x.shape[2:]), kernel_shape=[3, 3]
    )


@block("map")
def thresholded(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(1)
    mask = d.binary("Greater", x, d.floats(c, 1, 1, scale=0.2))
    if d.chance(0.5):
        return d.binary("Where", mask, x, d.floats(c, 1, 1, scale=0.2))
    return d.mul(x, d.op("Cast", mask, shape=x.shape, to=1))


@block("map")
def global_context(d: Drawing, x: Drawn) -> Drawn:
    """Spread the mean of the map over the map again."""
    y = d.conv(d.op("GlobalAveragePool", x, shape=(*x.shape[:2], 1, 1)), 3, 1)
    spread = d.expand(y, x, [3, x.size(2), x.size(3)])
    return d.conv(d.concat(x, spread), width(d), 1)


@block("map")
def tiled(d: Drawing, x: Drawn) -> Drawn:
    if x.size(1) > 8:
        raise Unfit("wide")
    y = d.op("Tile", x, d.ints(1, 2, 1, 1), shape=(x.shape[0], 2 * x.size(1), *x.shape[2:]))
    return d.conv(y, width(d), 1, group=1)


@block("map", since=12)
def einsum(d: Drawing, x: Drawn) -> Drawn:
    out = width(d)
    return d.op(
        "Einsum", x, d.floats(out, x.size(1)), shape=(x.shape[0], out, *x.shape[2:]), equation="nchw,oc->nohw"
    )


@block("map", "flat")
def pool_flatten(d: Drawing, x: Drawn) -> Drawn:
    y = d.op("GlobalAveragePool" if d.chance(0.6) else "GlobalMaxPool", x, shape=(*x.shape[:2], 1, 1))
    if d.chance(0.5):
        return d.op("Flatten", y, shape=x.shape[:2], axis=1)
    return d.squeeze(y, 2, 3) if d.chance(0.5) else d.reshape(y, 0, x.size(1))


@block("map", "flat")
def flatten_linear(d: Drawing, x: Drawn) -> Drawn:
    n = x.size(1) * x.size(2) * x.size(3)
    y = d.op("Flatten", x, shape=(x.shape[0], n), axis=1) if d.chance(0.5) else d.reshape(x, 0, n)
    return d.activate(d.linear(y, width(d)))


@block("map", "flat")
def mean_over_space(d: Drawing, x: Drawn) -> Drawn:
    return d.reduce(str(d.rng.choice(["ReduceMean", "ReduceMax", "ReduceSum"])), x, 2, 3, keep=False)


@block("map", "seq")
def to_tokens(d: Drawing, x: Drawn) -> Drawn:
    y = d.reshape(x, 0, x.size(1), x.size(2) * x.size(3))
    return d.transpose(y, 0, 2, 1)


@block("map", "seq")
def rows_as_time(d: Drawing, x: Drawn) -> Drawn:
    """Columns become time and each row of a channel a feature."""
    y = d.transpose(x, 0, 3, 1, 2)
    return d.reshape(y, 0, x.size(3), x.size(1) * x.size(2))
