"""Rules of the layers that onnxruntime fuses; those it has no kernel for are written out in standard operators."""

import numpy as np
import pytest

from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn

cases = Cases()
MS = "com.microsoft"


def head(d: Drawing, x: Drawn, width: int) -> Drawn:
    """Read the last axis."""
    return d.matmul(x, d.floats(width, 3, name="last"))


def hidden(d: Drawing, width: int = 6, name: str = "w", rows: int = 3) -> Drawn:
    """Draw a hidden layer over an input of rank three."""
    return d.matmul(d.input(2, rows, 4), d.floats(4, width, name=name))


# ------------------------------------------------------------------------------------------- activations, products


@cases.add("6: b[0] last[0] w[1]")
def bias_and_gelu(d: Drawing) -> Drawn:
    x = hidden(d)
    return head(d, d.op("BiasGelu", x, d.floats(6, name="b"), shape=x.shape, domain=MS), 6)


@cases.add("6: b[0] last[0] w[1]")
def fast_and_quick_gelu(d: Drawing) -> Drawn:
    x = hidden(d)
    y = d.op("FastGelu", x, d.floats(6, name="b"), shape=x.shape, domain=MS)
    y = d.op("Gelu", y, shape=x.shape, domain=MS)
    return head(d, d.op("QuickGelu", y, shape=x.shape, domain=MS, alpha=1.5), 6)


@cases.add("5: b[0] last[0] w[0]", symbolic=[False])
def fused_gemm(d: Drawing) -> Drawn:
    x = d.input(2, 4)
    w, b = d.floats(5, 4, name="w"), d.floats(5, name="b")
    y = d.op(
        "FusedGemm", x, w, b, shape=(2, 5), domain=MS, transB=1, activation="LeakyRelu", activation_alpha=0.1
    )
    return head(d, y, 5)


@cases.add("6: last[0] w[1]")
def fused_matmul_with_a_transposed_first_operand(d: Drawing) -> Drawn:
    x = d.unsqueeze(hidden(d), 1)
    y = d.transpose(x, 0, 1, 3, 2)
    y = d.op("FusedMatMul", y, d.floats(6, 3, name="last"), shape=(*x.shape[:3], 3), domain=MS, transA=1)
    return y


@cases.add("6: last[0] w[1]")
def transpose_matmul(d: Drawing) -> Drawn:
    x = hidden(d)
    y = d.transpose(x, 0, 2, 1)
    return d.op(
        "TransposeMatMul", y, d.floats(6, 3, name="last"), shape=(*x.shape[:2], 3), domain=MS, transA=1
    )


@cases.add("6: k[1] q[1]", symbolic=[False])
def fused_matmul_with_its_rows_before_its_batch(d: Drawing) -> Drawn:
    """A [rows, batch, k] and B [k, batch, columns] both come with what is multiplied first."""
    x = d.input(3, 2, 4)
    q = d.matmul(x, d.floats(4, 6, name="q"))
    k = d.transpose(d.matmul(x, d.floats(4, 6, name="k")), 2, 1, 0)
    return d.op("FusedMatMul", q, k, shape=(2, 3, 3), domain=MS, transBatchA=1, transBatchB=1, alpha=0.5)


# ---------------------------------------------------------------------------------------------------- convolutions


def image(d: Drawing, channels: int = 3) -> Drawn:
    return d.input(1, channels, 5, 5)


def pooled(d: Drawing, x: Drawn) -> Drawn:
    """Mean over space, then read the channels."""
    return head(d, d.reduce("ReduceMean", x, 2, 3, keep=False), x.size(1))


@cases.add("5: b[0] last[0] w[0] z[0]", opsets=(13,))
def fused_conv_with_a_residual(d: Drawing) -> Drawn:
    """A convolution plus its fourth input, then an activation: both have the same channels."""
    x = image(d)
    shape = (x.shape[0], 5, 5, 5)
    z = d.op("Conv", x, d.floats(5, 3, 1, 1, name="z"), shape=shape)
    w, b = d.floats(5, 3, 3, 3, name="w"), d.floats(5, name="b")
    return pooled(d, d.op("FusedConv", x, w, b, z, shape=shape, domain=MS, pads=[1] * 4, activation="Relu"))


@cases.add("4: b[0] last[0] v[0] w[0]", opsets=(13,))
def fused_conv_of_one_channel_each(d: Drawing) -> Drawn:
    x = image(d)
    shape = (x.shape[0], 4, 5, 5)
    y = d.op("Conv", x, d.floats(4, 3, 1, 1, name="v"), shape=shape)
    w, b = d.floats(4, 1, 3, 3, name="w"), d.floats(4, name="b")
    return pooled(
        d, d.op("FusedConv", y, w, b, shape=shape, domain=MS, group=4, pads=[1] * 4, activation="Tanh")
    )


@cases.add("4: last[0] w[1]", opsets=(13,))
def max_pool_with_channels_last(d: Drawing) -> Drawn:
    """The runtime has this one for bytes only."""
    x = d.input(1, 5, 5, 3)
    y = d.clip(d.matmul(x, d.floats(3, 4, name="w")), -1.0, 1.0)
    q = d.op("QuantizeLinear", y, d.scalar(0.01), d.const(np.uint8(128)), shape=y.shape)
    p = d.op("NhwcMaxPool", q, shape=(x.shape[0], 2, 2, 4), domain=MS, kernel_shape=[2, 2], strides=[2, 2])
    y = d.op("DequantizeLinear", p, d.scalar(0.01), d.const(np.uint8(128)), shape=p.shape)
    return head(d, y, 4)


@cases.add(symbolic=[False], pins={"w[0]": "blocked layout", "v[1]": "blocked layout"}, moves=False)
def convolution_in_blocks(d: Drawing) -> Drawn:
    x = d.input(1, 16, 4, 4)
    x = d.op("Conv", x, d.floats(16, 16, 1, 1, name="w"), shape=x.shape)
    blocks = "com.microsoft.nchwc"
    y = d.op("ReorderInput", x, shape=x.shape, domain=blocks)
    y = d.op("Conv", y, d.floats(16, 16, 1, 1, name="blocks"), shape=(1, 16, 4, 4), domain=blocks)
    y = d.op("ReorderOutput", y, shape=(1, 16, 4, 4), domain=blocks, channels=16)
    return d.op("Conv", y, d.floats(3, 16, 1, 1, name="v"), shape=(1, 3, 4, 4))


# ----------------------------------------------------------------------------------------------------------- norms


@cases.add("6: beta[0] bias[0] gamma[0] last[0] v[1] w[1]", opsets=(11, 17))
def skip_layer_norm(d: Drawing) -> list[Drawn]:
    """Both summands, the norm and the sum that goes on have one width."""
    x = d.input(2, 3, 4)
    a, b = (d.matmul(x, d.floats(4, 6, name=name)) for name in "wv")
    vectors = (d.floats(6, name=name) for name in ("gamma", "beta", "bias"))
    nothing = ()
    y, _, _, total = d.ops(
        "SkipLayerNormalization", a, b, *vectors, shapes=[a.shape, nothing, nothing, a.shape], domain=MS
    )
    return [head(d, d.add(y, total), 6)]


@cases.add("6: gamma[0] last[0] s[1] w[1]")
def skip_layer_norm_of_one_shared_residual(d: Drawing) -> Drawn:
    """The residual may lack the batch."""
    x = hidden(d)
    skip = d.floats(3, 6, name="s")
    y = d.op("SkipLayerNormalization", x, skip, d.floats(6, name="gamma"), shape=x.shape, domain=MS)
    return head(d, y, 6)


@cases.add("6: bias[0] gamma[0] last[0] v[1] w[1]")
def skip_simplified_layer_norm(d: Drawing) -> Drawn:
    x = d.input(2, 3, 4)
    a, b = (d.matmul(x, d.floats(4, 6, name=name)) for name in "wv")
    gamma, bias = d.floats(6, name="gamma"), d.floats(6, name="bias")
    y, _, _, total = d.ops(
        "SkipSimplifiedLayerNormalization", a, b, gamma, bias, shapes=[a.shape, (), (), a.shape], domain=MS,
        epsilon=1e-5,
    )  # fmt: skip
    return head(d, d.mul(y, total), 6)


@cases.add("6: gamma[0] last[0] w[1]", opsets=(11, 17))
def simplified_layer_norm(d: Drawing) -> Drawn:
    x = hidden(d)
    y = d.op("SimplifiedLayerNormalization", x, d.floats(6, name="gamma"), shape=x.shape, axis=-1)
    return head(d, y, 6)


@cases.add(
    "6: beta[0] gamma[0] last[0] place[1] segment[1] word[1]",
    pins={"word[0]": "looked up", "place[0]": "looked up"},
)
def embedding_with_a_norm(d: Drawing) -> Drawn:
    tokens, kinds = (d.input(2, 3, dtype=np.int32) for _ in range(2))
    tables = [d.floats(size, 6, name=name) for size, name in ((9, "word"), (5, "place"), (2, "segment"))]
    vectors = [d.floats(6, name=name) for name in ("gamma", "beta")]
    shape = (*tokens.shape, 6)
    kinds = d.op("Sub", kinds, kinds, shape=kinds.shape)
    tokens = d.op("Mod", tokens, d.const(np.int32(9)), shape=tokens.shape)
    y, _, total = d.ops(
        "EmbedLayerNormalization", tokens, kinds, *tables, *vectors,
        shapes=[shape, (tokens.shape[0],), shape], domain=MS,
    )  # fmt: skip
    return head(d, d.add(y, total), 6)


# ------------------------------------------------------------------------------------------------- without a kernel


@cases.add("6: b[0] last[0] t[1] w[1]")
def bias_and_residual(d: Drawing) -> Drawn:
    x = d.input(2, 3, 4)
    w, t = (d.matmul(x, d.floats(4, 6, name=name)) for name in "wt")
    return head(d, d.op("BiasAdd", w, d.floats(6, name="b"), t, shape=w.shape, domain=MS), 6)


@cases.add("5: b[0]*2 last[0] w[1]*2")
def gate_in_the_second_half(d: Drawing) -> Drawn:
    x = hidden(d, 10)
    y = d.op("BiasSplitGelu", x, d.floats(10, name="b"), shape=(*x.shape[:-1], 5), domain=MS)
    return head(d, y, 5)


def channels_last(d: Drawing, channels: int, name: str = "c") -> Drawn:
    """Draw a convolution of a picture, its channels moved to the end."""
    return convolved(d, d.input(1, 3, 5, 5), channels, name)


def convolved(d: Drawing, x: Drawn, channels: int, name: str) -> Drawn:
    y = d.op("Conv", x, d.floats(channels, 3, 3, 3, name=name), shape=(1, channels, 3, 3))
    return d.transpose(y, 0, 2, 3, 1)


@cases.add("2: b[0]*3 c[0]*3 g[0]*3 last[0]*3", "3: b[0]*2 c[0]*2 g[0]*2 last[0]*2", symbolic=[False])
def group_norm_of_small_groups(d: Drawing) -> Drawn:
    """Two groups of three: a product, so groups and places in them go."""
    x = channels_last(d, 6)
    g, b = d.floats(6, name="g"), d.floats(6, name="b")
    return head(
        d, d.op("GroupNorm", x, g, b, shape=x.shape, domain=MS, groups=2, activation=1, channels_last=1), 6
    )


@cases.add("3: last[0] w[1]*12", symbolic=[False])
def fused_group_norm_over_rows_a_layer_made(d: Drawing) -> Drawn:
    """Rows of the map may go: the statistics of each group run over those that stay."""
    x = d.reshape(d.matmul(d.input(2, 6), d.floats(6, 36, name="w")), 2, 3, 3, 4)
    g, b = d.floats(4, name="g"), d.floats(4, name="b")
    y = d.op("GroupNorm", x, g, b, shape=x.shape, domain=MS, groups=2, activation=1, channels_last=1)
    return head(d, d.transpose(y, 0, 3, 2, 1), 3)


@cases.add("8: b[0] c[0] g[0] last[0]", symbolic=[False])
def group_norm_of_large_groups(d: Drawing) -> Drawn:
    """Two groups of four lose equally many."""
    x = channels_last(d, 8)
    g, b = d.floats(8, name="g"), d.floats(8, name="b")
    return head(
        d, d.op("GroupNorm", x, g, b, shape=x.shape, domain=MS, groups=2, activation=0, channels_last=1), 8
    )


@cases.add("8: a[0] b[0] c[0] g[0] k[0] last[0]", symbolic=[False])
def group_norm_of_a_residual(d: Drawing) -> Drawn:
    """The sum comes out as well."""
    x = d.input(1, 3, 5, 5)
    c, k = (convolved(d, x, 8, name) for name in "ck")
    g, b, a = (d.floats(8, name=name) for name in "gba")
    y, total = d.ops(
        "SkipGroupNorm",
        c,
        g,
        b,
        k,
        a,
        shapes=[c.shape, c.shape],
        domain=MS,
        groups=2,
        activation=1,
        channels_last=1,
    )
    return head(d, d.add(y, total), 8)


@cases.add("4: b[0] c[0] last[0]", "5: a[0] c[1]", symbolic=[False])
def convolution_with_channels_last(d: Drawing) -> Drawn:
    x = channels_last(d, 5, "a")
    w, b = d.floats(4, 5, 3, 3, name="c"), d.floats(4, name="b")
    y = d.op(
        "NhwcConv",
        x,
        w,
        b,
        shape=(1, x.size(1), x.size(2), 4),
        domain=MS,
        pads=[1, 1, 1, 1],
        kernel_shape=[3, 3],
    )
    return head(d, y, 4)


@cases.add("4: last[0] r[1] w[0]", symbolic=[False])
def bias_by_distance(d: Drawing) -> Drawn:
    """Heads of the table meet heads of a score, here one linear map of the input for each."""
    length = d.const(np.array([5], np.int64))
    r = d.op("RelativePositionBias", d.floats(8, 4, name="r"), length, length, shape=(1, 4, 5, 5), domain=MS,
             max_distance=16, is_bidirectional=1)  # fmt: skip
    x = d.matmul(d.input(1, 1, 5, 3), d.floats(4, 3, 5, name="w"))
    return head(d, d.transpose(d.add(x, r), 0, 2, 3, 1), 4)


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)
