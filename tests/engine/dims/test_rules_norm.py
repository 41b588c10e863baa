"""Rules of normalisations: single operators and written out."""

import numpy as np
import pytest

from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn

cases = Cases()


def head(d: Drawing, x: Drawn) -> Drawn:
    """Read the channels of a map, or the last axis of anything else."""
    if len(x.shape) == 4:
        return d.conv(x, 3, 1, bias=False, weight=d.floats(3, x.size(1), 1, 1, name="last"))
    return d.matmul(x, d.floats(x.size(-1), 3, name="last"))


def map_of(d: Drawing, width: int) -> Drawn:
    x = d.input(2, 2, 5, 5)
    return d.op("Conv", x, d.floats(width, 2, 1, 1, name="w"), shape=(x.shape[0], width, 5, 5))


def sequence(d: Drawing, width: int) -> Drawn:
    return d.matmul(d.input(2, 3, 4), d.floats(4, width, name="w"))


@cases.add("5: last[1] m[0] o[0] s[0] v[0] w[0]", opsets=(9, 14, 15))
def batch_norm(d: Drawing) -> Drawn:
    x = map_of(d, 5)
    s, o, m = (d.floats(5, name=n, offset=0.5) for n in "som")
    v = d.const((0.5 + d.rng.random(5)).astype(np.float32), "v")
    return head(d, d.op("BatchNormalization", x, s, o, m, v, shape=x.shape))


@cases.add("5: last[0] m[0] o[0] s[0] v[0] w[1]", opsets=(15,))
def batch_norm_of_vectors(d: Drawing) -> Drawn:
    x = d.matmul(d.input(2, 4), d.floats(4, 5, name="w"))
    s, o, m = (d.floats(5, name=n, offset=0.5) for n in "som")
    v = d.const((0.5 + d.rng.random(5)).astype(np.float32), "v")
    return head(d, d.op("BatchNormalization", x, s, o, m, v, shape=x.shape))


@cases.add("5: last[1] m[0] o[0] s[0] v[0] w[0]", opsets=(14, 17), symbolic=[False])
def batch_norm_that_trains(d: Drawing) -> Drawn:
    """Batch statistics run over everything but the channels, which are free."""
    x = map_of(d, 5)
    s, o, m, v = (d.floats(5, name=n, offset=1.0, scale=0.1) for n in "somv")
    y = d.ops("BatchNormalization", x, s, o, m, v, shapes=[x.shape, (5,), (5,)], training_mode=1)
    return head(d, y[0])


@cases.add("5: last[1] o[0] s[0] w[0]", opsets=(9, 17))
def instance_norm(d: Drawing) -> Drawn:
    x = map_of(d, 5)
    return head(
        d,
        d.op(
            "InstanceNormalization",
            x,
            d.floats(5, name="s", offset=1.0),
            d.floats(5, name="o"),
            shape=x.shape,
        ),
    )


@cases.add("6: last[0] o[0] s[0] w[1]", opsets=(17,))
def layer_norm(d: Drawing) -> Drawn:
    x = sequence(d, 6)
    return head(
        d,
        d.op(
            "LayerNormalization",
            x,
            d.floats(6, name="s", offset=1.0),
            d.floats(6, name="o"),
            shape=x.shape,
            axis=-1,
        ),
    )


@cases.add("6: last[0] s[0] w[1]", opsets=(17,))
def layer_norm_without_bias(d: Drawing) -> Drawn:
    x = sequence(d, 6)
    return head(
        d, d.op("LayerNormalization", x, d.floats(6, name="s", offset=1.0), shape=x.shape, epsilon=1e-3)
    )


@cases.add("6: last[0] o[1] s[1] w[1]", opsets=(17,), pins={"s[0]": "graph input", "o[0]": "graph input"})
def layer_norm_over_two_axes(d: Drawing) -> Drawn:
    x = sequence(d, 6)
    s, o = d.floats(3, 6, name="s", offset=1.0, scale=0.1), d.floats(3, 6, name="o")
    return head(d, d.op("LayerNormalization", x, s, o, shape=x.shape, axis=1))


@cases.add("6: last[0] o[0] s[0] w[1]", opsets=(11, 13, 18))
def layer_norm_written_out(d: Drawing) -> Drawn:
    x = sequence(d, 6)
    return head(
        d, d.add(d.mul(d.standardise(x, 2), d.floats(6, name="s", offset=1.0)), d.floats(6, name="o"))
    )


@cases.add("6: last[1] o[0] s[0] w[0]", opsets=(17,))
def layer_norm_of_channels_last(d: Drawing) -> Drawn:
    x = d.transpose(map_of(d, 6), 0, 2, 3, 1)
    y = d.op(
        "LayerNormalization",
        x,
        d.floats(6, name="s", offset=1.0),
        d.floats(6, name="o"),
        shape=x.shape,
        axis=-1,
    )
    return head(d, d.transpose(y, 0, 3, 1, 2))


@cases.add("9: last[1] s[0] w[0]", opsets=(13, 18))
def channel_norm_written_out(d: Drawing) -> Drawn:
    """Statistics over axis 1 of a map; over two channels they are little more than a sign, and rounding."""
    x = map_of(d, 9)
    return head(d, d.mul(d.standardise(x, 1), d.floats(9, 1, 1, name="s", offset=1.0, scale=0.2)))


@cases.add("6: last[0] s[0] w[1]", opsets=(11, 18))
def root_mean_square_written_out(d: Drawing) -> Drawn:
    x = sequence(d, 6)
    square = d.reduce("ReduceMean", d.binary("Pow", x, d.scalar(2.0)), 2)
    inverse = d.unary("Reciprocal", d.unary("Sqrt", d.add(square, d.scalar(1e-5))))
    return head(d, d.mul(d.mul(x, inverse), d.floats(6, name="s", offset=1.0)))


@cases.add("6: last[0] s[0] w[1]", opsets=(23,))
def root_mean_square_operator(d: Drawing) -> Drawn:
    x = sequence(d, 6)
    return head(d, d.op("RMSNormalization", x, d.floats(6, name="s", offset=1.0), shape=x.shape, axis=-1))


@cases.add("6: last[0] s[0] w[1]", opsets=(17,))
def root_mean_square_of_the_runtime(d: Drawing) -> Drawn:
    x = sequence(d, 6)
    return head(
        d, d.op("SimplifiedLayerNormalization", x, d.floats(6, name="s", offset=1.0), shape=x.shape, axis=-1)
    )


def group_norm(d: Drawing, channels: int, groups: int) -> Drawn:
    x, scale = map_of(d, channels), d.floats(channels, name="s", offset=1.0)
    normal = d.op(
        "GroupNormalization", x, scale, d.floats(channels, name="o"), shape=x.shape, num_groups=groups
    )
    return head(d, normal)


@cases.add("3: last[1]*2 o[0]*2 s[0]*2 w[0]*2", "2: last[1]*3 o[0]*3 s[0]*3 w[0]*3", opsets=(21,))
def group_norm_of_small_groups(d: Drawing) -> Drawn:
    """Three groups of two: a product, in which groups may die."""
    return group_norm(d, 6, groups=3)


@cases.add("3: last[0] w[1]*12", opsets=(21,))
def group_norm_over_columns_a_layer_made(d: Drawing) -> Drawn:
    """Columns of the map may go: the statistics of each group run over those that stay."""
    x = d.reshape(d.matmul(d.input(2, 6), d.floats(6, 36, name="w")), 2, 4, 3, 3)
    scale, offset = d.floats(4, name="s", offset=1.0), d.floats(4, name="o")
    y = d.op("GroupNormalization", x, scale, offset, shape=x.shape, num_groups=2)
    return d.matmul(y, d.floats(3, 2, name="last"))


@cases.add("8: last[1] o[0] s[0] w[0]", opsets=(21,))
def group_norm_of_large_groups(d: Drawing) -> Drawn:
    """Two groups of four: each loses what it likes, as many as the other."""
    return group_norm(d, 8, groups=2)


@cases.add("3: last[1]*2 o[0] s[0] w[0]*2", "2: last[1]*3 w[0]*3", opsets=(11, 17))
def group_norm_written_as_instance_norm(d: Drawing) -> Drawn:
    x = map_of(d, 6)
    y = d.reshape(x, 0, 3, 50)
    y = d.op(
        "InstanceNormalization",
        y,
        d.const(np.ones(3, np.float32), "s"),
        d.const(np.zeros(3, np.float32), "o"),
        shape=y.shape,
    )
    return head(d, d.reshape(y, 0, 6, 5, 5))


@cases.add("6: last[0] w[1]", opsets=(11, 12, 13))
def softmax_over_the_last_axis(d: Drawing) -> Drawn:
    x = sequence(d, 6)
    return head(d, d.op("Softmax", x, shape=x.shape, axis=-1 if d.opset >= 13 else 2))


@cases.add("6: last[0] w[1]", opsets=(11,), symbolic=[False])
def softmax_over_all_trailing_axes(d: Drawing) -> Drawn:
    """Before 13 axis 1 means axes 1 and 2 together."""
    x = sequence(d, 6)
    return head(d, d.op("Softmax", x, shape=x.shape, axis=1))


@cases.add("6: last[0] w[1]", opsets=(11, 13))
def log_softmax(d: Drawing) -> Drawn:
    x = sequence(d, 6)
    return head(d, d.op("LogSoftmax", x, shape=x.shape, axis=2))


@cases.add("6: last[0] w[1]", opsets=(13,))
def lp_normalisation(d: Drawing) -> Drawn:
    x = sequence(d, 6)
    return head(d, d.op("LpNormalization", x, shape=x.shape, axis=-1, p=2))


@cases.add("6: last[1] w[0]", opsets=(9, 13, 17))
def local_response_normalisation(d: Drawing) -> Drawn:
    """Neighbours stay neighbours: the operator goes on at full width."""
    x = map_of(d, 6)
    return head(d, d.op("LRN", x, shape=x.shape, size=3))


@cases.add("6: last[0] w[1]", opsets=(11, 14))
def running_sum(d: Drawing) -> Drawn:
    """A removed position adds nothing to those behind it."""
    x = sequence(d, 6)
    return head(d, d.op("CumSum", x, d.const(np.array(2, np.int64)), shape=x.shape))


@cases.add("6: last[1] w[0]", opsets=(13,), symbolic=[False])
def mean_variance_normalisation(d: Drawing) -> Drawn:
    """Over batch and space by default: the channels are free."""
    x = map_of(d, 6)
    return head(d, d.op("MeanVarianceNormalization", x, shape=x.shape))


@cases.add(pins={"w[1]": "statistics over this axis"}, opsets=(13,), moves=False)
def hardmax(d: Drawing) -> Drawn:
    x = sequence(d, 6)
    return head(d, d.op("Hardmax", x, shape=x.shape, axis=-1))


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)
