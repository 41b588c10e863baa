"""Rules of convolutions, pooling and other operators on feature maps."""

import numpy as np
import pytest

from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn

cases = Cases()


def head(d: Drawing, x: Drawn) -> Drawn:
    """Read the channels of a map."""
    return d.conv(x, 3, 1, bias=False, weight=d.floats(3, x.size(1), 1, 1, name="last"))


def first(d: Drawing, width: int, side: int = 6) -> Drawn:
    """Make channels: weight w, bias b."""
    x = d.input(2, 2, side, side)
    w, b = d.floats(width, 2, 3, 3, name="w"), d.floats(width, name="b")
    return d.op("Conv", x, w, b, shape=(x.shape[0], width, side, side), pads=[1, 1, 1, 1])


@cases.add(
    "5: b[0] last[1] w[0]", opsets=(9, 11, 17), pins={"w[1]": "graph input", "last[0]": "graph output"}
)
def conv(d: Drawing) -> Drawn:
    return head(d, first(d, 5))


@cases.add("5: last[1] w[0]")
def conv_over_time(d: Drawing) -> Drawn:
    x = d.input(2, 2, 7)
    y = d.op("Conv", x, d.floats(5, 2, 3, name="w"), shape=(x.shape[0], 5, 5))
    return d.conv(y, 3, 1, bias=False, weight=d.floats(3, 5, 1, name="last"))


@cases.add("5: last[1] w[0]")
def conv_in_three_dimensions(d: Drawing) -> Drawn:
    x = d.input(2, 2, 3, 4, 3)
    y = d.op("Conv", x, d.floats(5, 2, 1, 3, 1, name="w"), shape=(x.shape[0], 5, 3, 2, 3))
    return d.conv(y, 3, 1, bias=False, weight=d.floats(3, 5, 1, 1, 1, name="last"))


@cases.add("6: b[0] c[0] last[1] v[0] w[0]")
def depthwise_conv(d: Drawing) -> Drawn:
    """The group count follows: every channel is a group."""
    x = first(d, 6)
    y = d.op(
        "Conv",
        x,
        d.floats(6, 1, 3, 3, name="v"),
        d.floats(6, name="c"),
        shape=x.shape,
        group=6,
        pads=[1, 1, 1, 1],
    )
    return head(d, y)


@cases.add("3: b[0]*2 last[1]*2 v[0]*2 w[0]*2", "2: b[0]*3 v[1] w[0]*3", "2: last[1]*3 v[0]*3")
def grouped_conv_with_few_slots(d: Drawing) -> Drawn:
    """Three groups of two slots: groups die whole, and slots in all groups alike, on either side."""
    x = first(d, 6)
    return head(d, d.op("Conv", x, d.floats(6, 2, 1, 1, name="v"), shape=x.shape, group=3))


@cases.add("8: b[0] w[0]", "8: last[1] v[0]")
def grouped_conv_with_many_slots(d: Drawing) -> Drawn:
    """Two groups of four slots: each group loses what it likes, as many as the other."""
    x = first(d, 8)
    return head(d, d.op("Conv", x, d.floats(8, 4, 1, 1, name="v"), shape=x.shape, group=2))


@cases.add("8: b[0] last[1] v[0] w[0]")
def grouped_conv_inside_a_residual(d: Drawing) -> Drawn:
    x = first(d, 8)
    return head(d, d.add(x, d.op("Conv", x, d.floats(8, 4, 1, 1, name="v"), shape=x.shape, group=2)))


@cases.add("5: b[0] v[0] w[0]", "4: c[0] last[1] v[1]", opsets=(9, 17))
def conv_transpose(d: Drawing) -> Drawn:
    x = first(d, 5)
    shape = (x.shape[0], 4, 12, 12)
    return head(
        d,
        d.op(
            "ConvTranspose",
            x,
            d.floats(5, 4, 2, 2, name="v"),
            d.floats(4, name="c"),
            shape=shape,
            strides=[2, 2],
        ),
    )


@cases.add("2: b[0]*3 c[0]*2 last[1]*2 v[0]*3 w[0]*3", "3: b[0]*2 v[0]*2 w[0]*2", "2: c[0]*2 last[1]*2 v[1]")
def conv_transpose_in_groups(d: Drawing) -> Drawn:
    """Two groups of three inputs and two outputs."""
    x = first(d, 6)
    shape = (x.shape[0], 4, 12, 12)
    y = d.op(
        "ConvTranspose",
        x,
        d.floats(6, 2, 2, 2, name="v"),
        d.floats(4, name="c"),
        shape=shape,
        strides=[2, 2],
        group=2,
    )
    return head(d, y)


@cases.add("5: b[0] last[1] v[0] v[1] w[0]")
def a_weight_used_by_two_convolutions(d: Drawing) -> Drawn:
    """The middle is read and made by one matrix: in and out are one axis."""
    x = first(d, 5)
    v = d.floats(5, 5, 3, 3, name="v")
    return head(d, d.conv(d.unary("Relu", d.conv(x, 5, bias=False, weight=v)), 5, bias=False, weight=v))


@cases.add("5: b[0] last[1] w[0]", opsets=(9, 11))
def pools(d: Drawing) -> Drawn:
    x = first(d, 5)
    shape = (x.shape[0], 5, 3, 3)
    y = d.add(
        d.op("MaxPool", x, shape=shape, kernel_shape=[2, 2], strides=[2, 2]),
        d.op("AveragePool", x, shape=shape, kernel_shape=[2, 2], strides=[2, 2]),
    )
    y = d.add(y, d.op("GlobalMaxPool", x, shape=(x.shape[0], 5, 1, 1)))
    y = d.add(y, d.op("GlobalAveragePool", x, shape=(x.shape[0], 5, 1, 1)))
    return head(d, d.add(y, d.op("LpPool", x, shape=shape, kernel_shape=[2, 2], strides=[2, 2], p=2)))


@cases.add(pins={"w[0]": "indices"}, moves=False)
def max_pool_with_indices(d: Drawing) -> list[Drawn]:
    """The indices count across channels, so none may go."""
    x = first(d, 5)
    y, where = d.ops("MaxPool", x, shapes=[(x.shape[0], 5, 3, 3)] * 2, kernel_shape=[2, 2], strides=[2, 2])
    return [head(d, y), d.op("Cast", where, shape=where.shape, to=1)]


@cases.add("5: b[0] last[1] w[0]", opsets=(9, 11, 17))
def max_unpool(d: Drawing) -> Drawn:
    """What counts the places and what reads them lose the same channels."""
    x = first(d, 5)
    y, where = d.ops("MaxPool", x, shapes=[(x.shape[0], 5, 3, 3)] * 2, kernel_shape=[2, 2], strides=[2, 2])
    return head(d, d.op("MaxUnpool", y, where, shape=x.shape, kernel_shape=[2, 2], strides=[2, 2]))


@cases.add(pins={"w[0]": "of another size"}, moves=False, symbolic=[False])
def max_unpool_into_another_size(d: Drawing) -> Drawn:
    """A place in a map of 7 x 6 is another place in one of 6 x 6, and which one depends on the channels before it."""
    x = d.conv(d.input(2, 2, 7, 6), 5, bias=False, weight=d.floats(5, 2, 3, 3, name="w"))
    y, where = d.ops("MaxPool", x, shapes=[(2, 5, 3, 3)] * 2, kernel_shape=[2, 2], strides=[2, 2])
    return head(d, d.op("MaxUnpool", y, where, shape=(2, 5, 6, 6), kernel_shape=[2, 2], strides=[2, 2]))


@cases.add("5: b[0] last[1] w[0]", opsets=(10, 11, 13, 19))
def resize_by_scales(d: Drawing) -> Drawn:
    x = first(d, 5)
    scales = d.const(np.array([1, 1, 2, 2], np.float32))
    shape = (x.shape[0], 5, 12, 12)
    if d.opset < 11:
        return head(d, d.op("Resize", x, scales, shape=shape, mode="nearest"))
    return head(d, d.op("Resize", x, d.const(np.zeros(0, np.float32)), scales, shape=shape, mode="linear"))


@cases.add("5: b[0] last[1] w[0]", opsets=(11, 13, 18), symbolic=[False])
def resize_by_sizes(d: Drawing) -> Drawn:
    """All four sizes are written down: the channels among them follow the cut."""
    x = first(d, 5)
    empty = d.const(np.zeros(0, np.float32))
    return head(d, d.op("Resize", x, empty, empty, d.ints(2, 5, 9, 9), shape=(2, 5, 9, 9), mode="nearest"))


@cases.add("5: b[0] last[1] w[0]", opsets=(18,))
def resize_of_named_axes(d: Drawing) -> Drawn:
    x = first(d, 5)
    return head(
        d,
        d.op("Resize", x, None, None, d.ints(9, 9), shape=(x.shape[0], 5, 9, 9), mode="nearest", axes=[2, 3]),
    )


@cases.add("5: b[0] last[1] w[0]", opsets=(9,))
def upsample(d: Drawing) -> Drawn:
    x = first(d, 5)
    return head(
        d, d.op("Upsample", x, d.const(np.array([1, 1, 2, 2], np.float32)), shape=(x.shape[0], 5, 12, 12))
    )


@cases.add(pins={"w[0]": "resized"}, moves=False)
def resize_across_channels(d: Drawing) -> Drawn:
    x = first(d, 5)
    scales = d.const(np.array([1, 2, 1, 1], np.float32))
    return head(d, d.op("Resize", x, None, scales, shape=(x.shape[0], 10, 6, 6), mode="nearest"))


@cases.add("3: b[0]*4 last[1] w[0]*4", opsets=(11, 13))
def depth_to_space_depth_first(d: Drawing) -> Drawn:
    x = first(d, 12)
    return head(d, d.op("DepthToSpace", x, shape=(x.shape[0], 3, 12, 12), blocksize=2, mode="DCR"))


@cases.add("3: b[0]*4 last[1] w[0]*4", opsets=(11, 13))
def depth_to_space_column_first(d: Drawing) -> Drawn:
    x = first(d, 12)
    return head(d, d.op("DepthToSpace", x, shape=(x.shape[0], 3, 12, 12), blocksize=2, mode="CRD"))


@cases.add("5: b[0] last[1]*4 w[0]", opsets=(9, 13))
def space_to_depth(d: Drawing) -> Drawn:
    x = first(d, 5)
    return head(d, d.op("SpaceToDepth", x, shape=(x.shape[0], 20, 3, 3), blocksize=2))


@cases.add("5: b[0] last[1] w[0]", opsets=(16,))
def grid_sample(d: Drawing) -> Drawn:
    x = first(d, 5)
    grid = d.unary("Tanh", d.input(2, 4, 4, 2, name="grid"))
    return head(d, d.op("GridSample", x, grid, shape=(x.shape[0], 5, 4, 4)))


@cases.add("5: b[0] last[1] w[0]", opsets=(16,), symbolic=[False])
def roi_align(d: Drawing) -> Drawn:
    x = first(d, 5)
    rois = d.const(np.array([[0, 0, 3, 3], [1, 1, 5, 4], [0, 2, 4, 5]], np.float32))
    y = d.op("RoiAlign", x, rois, d.ints(0, 1, 0), shape=(3, 5, 2, 2), output_height=2, output_width=2)
    return head(d, y)


@cases.add("5: b[0] last[1] w[0]", opsets=(19,), symbolic=[False])
def deformable_conv(d: Drawing) -> Drawn:
    x = d.input(2, 2, 4, 4)
    offset = d.const((0.3 * d.rng.standard_normal((2, 18, 2, 2))).astype(np.float32))
    w, b = d.floats(5, 2, 3, 3, name="w"), d.floats(5, name="b")
    return head(d, d.op("DeformConv", x, w, offset, b, shape=(2, 5, 2, 2), kernel_shape=[3, 3]))


@cases.add("3: u[0]*2 v[0]*2 w[1]*2", "5: b[0] last[1] w[0]", opsets=(19,), symbolic=[False])
def deformable_conv_with_two_sets_of_places(d: Drawing) -> Drawn:
    """Six channels share two sets of places, three to a set: both sets lose the same of their three."""
    x = d.conv(d.input(2, 2, 4, 4), 6, kernel=1, weight=d.floats(6, 2, 1, 1, name="u"), bias=False)
    x = d.mul(x, d.floats(6, 1, 1, name="v"))
    offset = d.const((0.3 * d.rng.standard_normal((2, 36, 2, 2))).astype(np.float32))
    w, b = d.floats(5, 6, 3, 3, name="w"), d.floats(5, name="b")
    y = d.op("DeformConv", x, w, offset, b, shape=(2, 5, 2, 2), kernel_shape=[3, 3], offset_group=2)
    return head(d, y)


@cases.add("5: b[0] last[0] w[0]", opsets=(9, 13))
def a_convolution_between_transposes(d: Drawing) -> Drawn:
    """Channels last: transpose, convolve, transpose back, read the last axis."""
    x = d.input(2, 6, 6, 2)
    y = d.transpose(x, 0, 3, 1, 2)
    w, b = d.floats(5, 2, 3, 3, name="w"), d.floats(5, name="b")
    y = d.op("Conv", y, w, b, shape=(x.shape[0], 5, 4, 4))
    return d.matmul(d.transpose(y, 0, 2, 3, 1), d.floats(5, 3, name="last"))


@cases.add("4: last[1] s[0] w[0]", opsets=(13,))
def quantised_weight(d: Drawing) -> Drawn:
    """A stored integer weight, its scale per channel."""
    x = d.input(2, 2, 6, 6)
    w = d.const(d.rng.integers(-100, 100, (4, 2, 3, 3)).astype(np.int8), "w")
    s = d.const((0.01 + 0.01 * d.rng.random(4)).astype(np.float32), "s")
    y = d.op("DequantizeLinear", w, s, shape=w.shape, axis=0)
    return head(d, d.conv(x, 4, bias=False, weight=y))


@cases.add("4: b[0] last[1] r[0] s[0] w[0]", opsets=(10, 13))
def quantised_conv(d: Drawing) -> Drawn:
    """QLinearConv with scales and zero points per channel, its output read by floats again."""
    x = d.input(2, 2, 6, 6)
    zero, scale = d.const(np.uint8(120)), d.scalar(0.05)
    q = d.op("QuantizeLinear", x, scale, zero, shape=x.shape)
    w = d.const(d.rng.integers(-100, 100, (4, 2, 3, 3)).astype(np.int8), "w")
    s, r = (
        d.const((0.01 + 0.01 * d.rng.random(4)).astype(np.float32), "s"),
        d.const(np.zeros(4, np.int8), "r"),
    )
    b = d.const(np.arange(4).astype(np.int32) * 30, "b")
    y = d.op("QLinearConv", q, scale, zero, w, s, r, scale, zero, b, shape=(x.shape[0], 4, 4, 4))
    return head(d, d.op("DequantizeLinear", y, scale, zero, shape=y.shape))


@cases.add("3: c[0] last[1] s[0] v[0]", "4: v[1] w[0]", opsets=(13,))
def two_quantised_convs(d: Drawing) -> Drawn:
    """Between two QLinearConvs everything stays quantised; zero is the zero point."""
    x = d.input(2, 2, 6, 6)
    zero, scale = d.const(np.uint8(120)), d.scalar(0.05)
    q = d.op("QuantizeLinear", x, scale, zero, shape=x.shape)
    w, v = (
        d.const(d.rng.integers(-100, 100, (o, i, 3, 3)).astype(np.int8), n)
        for n, o, i in (("w", 4, 2), ("v", 3, 4))
    )
    y = d.op(
        "QLinearConv",
        q,
        scale,
        zero,
        w,
        d.scalar(0.01),
        d.const(np.int8(0)),
        scale,
        zero,
        shape=(x.shape[0], 4, 4, 4),
    )
    s, c = (
        d.const((0.01 + 0.01 * d.rng.random(3)).astype(np.float32), "s"),
        d.const(np.arange(3).astype(np.int32), "c"),
    )
    y = d.op(
        "QLinearConv", y, scale, zero, v, s, d.const(np.int8(0)), scale, zero, c, shape=(x.shape[0], 3, 2, 2)
    )
    return head(d, d.op("DequantizeLinear", y, scale, zero, shape=y.shape))


@cases.add("4: last[1] w[0]", opsets=(13,))
def conv_of_integers(d: Drawing) -> Drawn:
    x = d.input(2, 2, 6, 6)
    q = d.op("QuantizeLinear", x, d.scalar(0.05), d.const(np.uint8(120)), shape=x.shape)
    w = d.const(d.rng.integers(-100, 100, (4, 2, 3, 3)).astype(np.int8), "w")
    y = d.op("ConvInteger", q, w, d.const(np.uint8(120)), shape=(x.shape[0], 4, 4, 4))
    return head(d, d.mul(d.op("Cast", y, shape=y.shape, to=1), d.scalar(0.001)))


@cases.add("7: b[0] last[1] w[0]", opsets=(9, 13))
def conv_across_channels(d: Drawing) -> Drawn:
    """Channel attention slides a kernel along the width: the convolution goes on at full width."""
    y = first(d, 7)
    pooled = d.op("GlobalAveragePool", y, shape=(y.shape[0], 7, 1, 1))
    line = d.transpose(d.squeeze(pooled, 3), 0, 2, 1)
    mixed = d.op("Conv", line, d.floats(1, 1, 3, name="v"), shape=line.shape, pads=[1, 1])
    gate = d.unary("Sigmoid", d.unsqueeze(d.transpose(mixed, 0, 2, 1), 3))
    return head(d, d.mul(y, gate))


@cases.add(pins={"w[0]": "a spatial axis"}, moves=False)
def conv_across_channels_without_padding(d: Drawing) -> Drawn:
    """Fewer places come out than go in: not the same axis."""
    y = first(d, 7)
    line = d.transpose(d.squeeze(d.op("GlobalAveragePool", y, shape=(y.shape[0], 7, 1, 1)), 3), 0, 2, 1)
    return d.op("Conv", line, d.floats(1, 1, 3, name="v"), shape=(line.shape[0], 1, 5))


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)
