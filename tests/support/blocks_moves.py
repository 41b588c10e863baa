"""Blocks that move things about in the ways exporters do: lists, windows, indices, masks, fills, odd reshapes."""

import numpy as np
import onnx_graphsurgeon as gs

from tests.support.blocks import block
from tests.support.blocks_map import divisor
from tests.support.drawing import Drawing, Drawn, Unfit


def width(d: Drawing) -> int:
    return d.pick(4, 6, 8)


def even(x: Drawn) -> tuple[int, int, int]:
    c, h, w = x.size(1), x.size(2), x.size(3)
    if h % 2 or w % 2 or c > 12:
        raise Unfit("odd, or too wide")
    return c, h, w


@block("map")
def space_to_depth_written_out(d: Drawing, x: Drawn) -> Drawn:
    """Four places become channels: channels first or the places first."""
    c, h, w = even(x)
    y = d.reshape(x, 0, c, h // 2, 2, w // 2, 2)
    order = (0, 1, 3, 5, 2, 4) if d.chance(0.5) else (0, 3, 5, 1, 2, 4)
    y = d.reshape(d.transpose(y, *order), 0, 4 * c, h // 2, w // 2)
    return d.conv(y, width(d), 1)


@block("map")
def shuffled_by_gather(d: Drawing, x: Drawn) -> Drawn:
    """Groups of channels exchange members by numbers instead of by reshapes."""
    c = x.size(1)
    groups = divisor(d, c)
    order = np.arange(c).reshape(groups, -1).T.ravel()
    y = d.op("Gather", x, d.const(order), shape=x.shape, axis=1)
    return d.activate(d.conv(y, c, group=groups))


@block("map")
def shuffle_unit(d: Drawing, x: Drawn) -> Drawn:
    """Half of the channels pass, half are worked on, then both are shuffled together."""
    c, h, w = x.size(1), x.size(2), x.size(3)
    if c % 2 or c < 4:
        raise Unfit("odd or thin")
    a, b = d.split(x, [c // 2, c // 2], 1)
    b = d.unary("Relu", d.batch_norm(d.conv(d.conv(b, c // 2, group=c // 2), c // 2, 1)))
    y = d.reshape(d.concat(a, b), 0, 2, c // 2, h, w)
    return d.reshape(d.transpose(y, 0, 2, 1, 3, 4), 0, c, h, w)


@block("map")
def split_into_a_list(d: Drawing, x: Drawn) -> Drawn:
    """Windows as a list of tensors, of which each is taken by its number."""
    c = x.size(1)
    if c < 4 or c % 2:
        raise Unfit("odd or thin")
    half = (x.shape[0], c // 2, *x.shape[2:])
    size = d.const(np.int64(c // 2)) if d.chance(0.5) else d.ints(c // 2, c // 2)
    parts = d.op("SplitToSequence", x, size, shape=(), axis=1)
    a, b = (d.op("SequenceAt", parts, d.const(np.int64(i)), shape=half) for i in range(2))
    return d.concat(d.conv(b, width(d), 1), a)


@block("map")
def max_over_pairs(d: Drawing, x: Drawn) -> Drawn:
    """The larger of every two channels, by a reshape or by two windows."""
    half = d.pick(3, 4)
    y = d.conv(x, 2 * half)
    if d.chance(0.5):
        y = d.reshape(y, 0, half, 2, x.size(2), x.size(3))
        return d.reduce("ReduceMax", y, 2, keep=False)
    return d.binary("Max", *d.split(y, [half, half], 1))


@block("map")
def filled_channels(d: Drawing, x: Drawn) -> Drawn:
    """Channels of a constant, made at run time from the shape, beside the others."""
    extra = d.pick(2, 3)
    shape = d.shape_with_batch(x, [extra, x.size(2), x.size(3)])
    value = gs.Constant("", np.array([0.5], dtype=np.float32))
    filled = d.op("ConstantOfShape", shape, shape=(x.shape[0], extra, *x.shape[2:]), value=value)
    y = d.concat(x, filled)
    return d.conv(y, width(d), 1) if d.chance(0.6) else d.add(y, d.conv(x, y.size(1), 1))


@block("map")
def coordinates(d: Drawing, x: Drawn) -> Drawn:
    """Two constant channels of places beside the others."""
    h, w = x.size(2), x.size(3)
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")).astype(
        np.float32
    )
    spread = d.expand(d.const(grid[None]), x, [2, h, w])
    return d.activate(d.conv(d.concat(x, spread), width(d)))


@block("map")
def channels_as_batch(d: Drawing, x: Drawn) -> Drawn:
    """Every channel is filtered alike, as an item of the batch."""
    c, h, w = x.size(1), x.size(2), x.size(3)
    n = x.shape[0]
    y = d.regroup(x, [-1, 1, h, w], (f"{n}c" if isinstance(n, str) else n * c, 1, h, w))
    y = d.conv(y, 1)
    return d.regroup(y, [-1, c, h, w], (n, c, h, w))


@block("map")
def scaled_where_positive(d: Drawing, x: Drawn) -> Drawn:
    """Choose per place and channel between two maps, by signs or by a stored mask over channels."""
    y = d.conv(x, x.size(1))
    if d.chance(0.5):
        return d.binary("Where", d.const(d.rng.random((x.size(1), 1, 1)) < 0.5), x, y)
    mask = d.unary("Not", d.binary("Less", x, d.scalar(0.0)))
    return d.binary("Where", mask, y, x)


@block("map")
def einsum_filters(d: Drawing, x: Drawn) -> Drawn:
    """A matrix over channels for every row, by MatMul on moved axes."""
    c, h, w = x.size(1), x.size(2), x.size(3)
    out = width(d)
    y = d.transpose(x, 0, 2, 3, 1)
    y = d.matmul(y, d.floats(h, c, out, scale=0.4))
    assert w
    return d.transpose(d.activate(y), 0, 3, 1, 2)


@block("map", "flat")
def bilinear_pooling(d: Drawing, x: Drawn) -> Drawn:
    """Products of every two channels, summed over places; the pairs are flattened."""
    c, h, w = x.size(1), x.size(2), x.size(3)
    if c > 6:
        raise Unfit("too many pairs")
    y = d.reshape(x, 0, c, h * w)
    y = d.mul(d.matmul(y, d.transpose(y, 0, 2, 1)), d.scalar(1.0 / (h * w)))
    return d.linear(d.op("Flatten", y, shape=(x.shape[0], c * c), axis=1), width(d))


@block("map", "flat")
def pyramid(d: Drawing, x: Drawn) -> Drawn:
    """Places pooled at two scales, each flattened, side by side."""
    c, h, w = x.size(1), x.size(2), x.size(3)
    if h % 2 or w % 2:
        raise Unfit("odd")
    parts = []
    for cells in (1, 2):
        y = d.op(
            "AveragePool", x, shape=(x.shape[0], c, cells, cells), kernel_shape=[h // cells, w // cells],
            strides=[h // cells, w // cells],
        )  # fmt: skip
        parts.append(d.op("Flatten", y, shape=(x.shape[0], c * cells * cells), axis=1))
    return d.linear(d.concat(*parts), width(d))


@block("seq")
def merged_neighbours(d: Drawing, x: Drawn) -> Drawn:
    """Two steps become one of twice the width, by a reshape or by strided slices."""
    time, c = x.size(1), x.size(2)
    if time % 2:
        raise Unfit("odd")
    if d.chance(0.5):
        y = d.reshape(x, 0, time // 2, 2 * c)
    else:
        y = d.concat(d.slice(x, 1, 0, 2**31, 2), d.slice(x, 1, 1, 2**31, 2), axis=2)
    return d.linear(d.layer_norm(y), width(d), bias=False)


@block("seq")
def padded_and_cut(d: Drawing, x: Drawn) -> Drawn:
    """Channels grow by a Pad, are mixed, and the new ones are cut off."""
    c = x.size(2)
    y = d.pad(x, [0, 0, d.pick(0, 1), 0, 0, 2])
    y = d.add(y, d.linear(x, y.size(2)))
    return d.slice(y, 2, 1, c + 1)


@block("seq")
def tiled_channels(d: Drawing, x: Drawn) -> Drawn:
    """Repeat every channel in turn (Tile) or each one beside itself (Expand and reshape)."""
    c = x.size(2)
    if c > 8:
        raise Unfit("wide")
    if d.chance(0.5):
        y = d.op("Tile", x, d.ints(1, 1, 2), shape=(*x.shape[:2], 2 * c))
    else:
        time = x.shape[1]
        y = d.reshape(d.expand(d.unsqueeze(x, 3), x, [time, c, 2]), 0, time, 2 * c)
    return d.add(d.linear(x, 2 * c), y) if d.chance(0.5) else d.linear(y, width(d))


@block("seq")
def overwritten(d: Drawing, x: Drawn) -> Drawn:
    """Some channels are overwritten by others through ScatterND on the moved axis, or by Where with a mask."""
    c, time = x.size(2), x.shape[1]
    if d.chance(0.5):
        mask = d.const(d.rng.random(c) < 0.5)
        return d.linear(d.binary("Where", mask, d.linear(x, c), x), width(d))
    rows = np.sort(d.rng.permutation(c)[:2]).astype(np.int64)
    first = d.transpose(x, 2, 0, 1)
    update = d.transpose(d.linear(x, 2), 2, 0, 1)
    y = d.op("ScatterND", first, d.const(rows[:, None]), update, shape=(c, x.shape[0], time))
    return d.transpose(y, 1, 2, 0)


@block("seq")
def gathered_twice(d: Drawing, x: Drawn) -> Drawn:
    """Sort the channels anew, work, and sort them back."""
    c = x.size(2)
    order = d.rng.permutation(c).astype(np.int64)
    y = d.op("Gather", x, d.const(order), shape=x.shape, axis=2)
    y = d.mul(y, d.floats(c))
    return d.add(x, d.op("Gather", y, d.const(np.argsort(order).astype(np.int64)), shape=x.shape, axis=-1))


@block("seq")
def picked_pairs(d: Drawing, x: Drawn) -> Drawn:
    """Pairs of channels by an index of rank two, and GatherND on the moved axis."""
    c, n, time = x.size(2), x.shape[0], x.shape[1]
    if d.chance(0.5):
        pairs = d.rng.integers(0, c, (3, 2)).astype(np.int64)
        y = d.op("Gather", x, d.const(pairs), shape=(n, time, 3, 2), axis=2)
        return d.concat(d.linear(x, width(d)), d.reduce("ReduceSum", y, 3, keep=False), axis=2)
    rows = d.rng.integers(0, c, (3, 1)).astype(np.int64)
    y = d.op("GatherND", d.transpose(x, 2, 0, 1), d.const(rows), shape=(3, n, time))
    return d.concat(d.transpose(y, 1, 2, 0), d.linear(x, width(d)), axis=2)


@block("flat")
def folded_and_scaled(d: Drawing, x: Drawn) -> Drawn:
    """See the vector as a matrix, scale rows and columns apart, and lay it out in the other order."""
    c = x.size(1)
    rows = divisor(d, c)
    y = d.reshape(x, 0, rows, c // rows)
    y = d.mul(d.mul(y, d.floats(rows, 1, scale=0.3, offset=1.0)), d.floats(c // rows, scale=0.3, offset=1.0))
    y = d.transpose(y, 0, 2, 1) if d.chance(0.5) else y
    return d.linear(d.reshape(y, 0, c), width(d))


@block("flat")
def one_hot_words(d: Drawing, x: Drawn) -> Drawn:
    """The number of the largest feature as a vector of ones and zeros, times a table."""
    classes = d.linear(x, 5)
    best = d.op("ArgMax", classes, shape=(x.shape[0],), axis=1, keepdims=0)
    values = d.const(np.array([0, 1], dtype=np.float32))
    hot = d.op("OneHot", best, d.const(np.int64(5)), values, shape=(x.shape[0], 5), axis=-1)
    return d.add(d.linear(x, 6), d.matmul(hot, d.floats(5, 6)))


@block("flat")
def every_reduction(d: Drawing, x: Drawn) -> Drawn:
    """Some statistic of all features as one more feature, or as a divisor."""
    kinds = [
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSumExp",
        "ReduceMin",
        "ReduceMax",
        "ReduceProd",
    ]
    kind = str(d.rng.choice(kinds))
    y = d.unary("Sigmoid", d.linear(x, width(d)))
    total = d.reduce(kind, y, 1)
    return (
        d.concat(y, total)
        if d.chance(0.5)
        else d.binary("Div", y, d.add(d.unary("Abs", total), d.scalar(0.5)))
    )


@block("flat")
def logits(d: Drawing, x: Drawn) -> Drawn:
    """Log-probabilities, hard choices, and a temperature."""
    y = d.mul(d.linear(x, width(d)), d.scalar(0.7))
    if d.chance(0.3):
        return d.concat(d.op("Hardmax", y, shape=y.shape, axis=1), d.linear(x, 3))
    return d.linear(d.op("LogSoftmax", y, shape=y.shape, axis=1), width(d))


@block("flat", since=13)
def quantised_layer(d: Drawing, x: Drawn) -> Drawn:
    """A layer whose weight is stored in eight bits with a scale per output or per input, its input rounded too."""
    c, out = x.size(1), width(d)
    zero = d.const(np.int8(0))
    x = d.op("QuantizeLinear", x, d.scalar(0.03), zero, shape=x.shape)
    x = d.op("DequantizeLinear", x, d.scalar(0.03), zero, shape=x.shape)
    axis = d.pick(0, 1)
    scale = d.const((0.003 + 0.01 * d.rng.random((out, c)[axis])).astype(np.float32))
    stored = d.const(d.rng.integers(-100, 100, (out, c)).astype(np.int8))
    w = d.op("DequantizeLinear", stored, scale, shape=(out, c), axis=axis)
    return d.activate(d.op("Gemm", x, w, d.floats(out), shape=(x.shape[0], out), transB=1))


@block("flat", since=13)
def dynamically_quantised(d: Drawing, x: Drawn) -> Drawn:
    """The input is rounded by its own range and multiplied in integers."""
    out = width(d)
    whole, scale, zero = d.ops("DynamicQuantizeLinear", x, shapes=[x.shape, (), ()])
    stored = d.const(d.rng.integers(-100, 100, (x.size(1), out)).astype(np.int8))
    y = d.op("MatMulInteger", whole, stored, zero, shape=(x.shape[0], out))
    return d.add(d.mul(d.op("Cast", y, shape=y.shape, to=1), d.mul(scale, d.scalar(0.004))), d.floats(out))
