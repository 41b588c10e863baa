"""Rules of quantized operators: scales along an axis, zero points in the proof, ranges that zeros do not widen."""

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.dims import groups
from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn
from tests.support.oracles import random_dead, removal
from tests.support.tolerances import FLOAT32

cases = Cases()
MS = "com.microsoft"
ZERO = np.uint8(120)


def head(d: Drawing, x: Drawn) -> Drawn:
    """Read the last axis."""
    return d.matmul(x, d.floats(x.size(-1), 3, name="last"))


def hidden(d: Drawing, width: int = 6) -> Drawn:
    """Draw a hidden layer over an input of rank three."""
    return d.matmul(d.input(2, 3, 4), d.floats(4, width, name="a"))


def small(d: Drawing, *shape: int, name: str, dtype: npt.DTypeLike = np.int8) -> Drawn:
    """Draw a weight of bytes."""
    return d.const(d.rng.integers(-90, 90, shape).astype(dtype), name)


def steps(d: Drawing, count: int, name: str, size: float = 0.01) -> Drawn:
    """Draw a scale for each of `count` positions."""
    return d.const((size * (1 + np.arange(count) / count)).astype(np.float32), name)


def quantized(d: Drawing, x: Drawn) -> Drawn:
    return d.op("QuantizeLinear", x, d.scalar(0.02), d.const(ZERO), shape=x.shape)


def floats_again(d: Drawing, x: Drawn) -> Drawn:
    return d.op("DequantizeLinear", x, d.scalar(0.02), d.const(ZERO), shape=x.shape)


# ------------------------------------------------------------------------------------------------- pairs of Q and DQ


@cases.add("6: a[1] last[0] s[0]*2 z[0]*2", opsets=(13, 19))
def a_scale_for_each_channel_of_an_activation(d: Drawing) -> Drawn:
    x = hidden(d)
    s, z = steps(d, 6, "s"), d.const(np.arange(6).astype(np.int8), "z")
    q = d.op("QuantizeLinear", x, s, z, shape=x.shape, axis=2)
    return head(d, d.op("DequantizeLinear", q, s, z, shape=x.shape, axis=-1))


@cases.add("6: a[1] w[0]", "5: last[0] s[0] w[1]", opsets=(13,))
def a_weight_of_bytes_with_a_scale_for_each_column(d: Drawing) -> Drawn:
    w = d.op("DequantizeLinear", small(d, 6, 5, name="w"), steps(d, 5, "s"), shape=(6, 5), axis=1)
    return head(d, d.matmul(hidden(d), w))


@cases.add("6: a[1] w[0]", "5: last[0] s[0]*2 w[1] z[0]*2", opsets=(13,))
def a_weight_of_floats_quantized_in_the_graph(d: Drawing) -> Drawn:
    """The weight is stored in floats; what it becomes is no shape arithmetic for being whole numbers."""
    w, s, z = d.floats(6, 5, name="w"), steps(d, 5, "s"), d.const(np.zeros(5, dtype=np.int8), "z")
    q = d.op("QuantizeLinear", w, s, z, shape=w.shape, axis=1)
    return head(d, d.matmul(hidden(d), d.op("DequantizeLinear", q, s, z, shape=w.shape, axis=1)))


@cases.add("3: a[1]*4 s[0] w[0]*4", "5: last[0] s[1] w[1]", opsets=(21,))
def a_weight_with_a_scale_for_each_block(d: Drawing) -> Drawn:
    """Blocks of four rows share a scale: they go together."""
    w, s = small(d, 12, 5, name="w"), d.floats(3, 5, scale=0.002, offset=0.01, name="s")
    w = d.op("DequantizeLinear", w, s, shape=w.shape, axis=0, block_size=4)
    return head(d, d.matmul(hidden(d, 12), w))


@cases.add("6: last[0] table[1]", opsets=(13,), pins={"table[0]": "looked up"})
def a_table_of_bytes(d: Drawing) -> Drawn:
    tokens = d.op("Mod", d.input(2, 3, dtype=np.int64), d.const(np.int64(9)), shape=d.input(2, 3).shape)
    rows = d.op("Gather", small(d, 9, 6, name="table"), tokens, shape=(*tokens.shape, 6))
    return head(d, d.op("DequantizeLinear", rows, d.scalar(0.02), shape=rows.shape))


# --------------------------------------------------------------------------------------- ranges found at run time


@cases.add("6: a[1] far[0] w[0]", "5: last[0] w[1]", opsets=(11, 13))
def quantized_by_its_own_range(d: Drawing) -> Drawn:
    """The range of what is left; a removed position that stood out widens it no more."""
    x = d.add(hidden(d), d.const(np.array([0, 0, 9, 0, 0, -5], dtype=np.float32), "far"))
    q, s, z = d.ops("DynamicQuantizeLinear", x, shapes=[x.shape, (), ()])
    y = d.op("MatMulInteger", q, small(d, 6, 5, name="w"), z, shape=(*x.shape[:2], 5))
    return head(d, d.mul(d.op("Cast", y, shape=y.shape, to=1), d.mul(s, d.scalar(0.01))))


@cases.add("4: a[0] w[1]", "5: last[0] w[0]", opsets=(11,))
def feature_map_quantized_by_its_own_range(d: Drawing) -> Drawn:
    x = d.input(1, 2, 4, 4)
    x = d.op("Conv", x, d.floats(4, 2, 1, 1, name="a"), shape=(x.shape[0], 4, 4, 4))
    q, s, z = d.ops("DynamicQuantizeLinear", x, shapes=[x.shape, (), ()])
    w = small(d, 5, 4, 3, 3, name="w", dtype=np.uint8)
    y = d.op("ConvInteger", q, w, z, d.const(np.uint8(0)), shape=(x.shape[0], 5, 4, 4), pads=[1] * 4)
    y = d.mul(d.op("Cast", y, shape=y.shape, to=1), d.mul(s, d.scalar(0.01)))
    return head(d, d.reduce("ReduceMean", y, 2, 3, keep=False))


@cases.add("6: a[1] far[0] w[0]", "5: b[0] last[0] s[0] w[1] z[0]", opsets=(13,))
def product_that_quantizes_its_input(d: Drawing) -> Drawn:
    x = d.add(hidden(d), d.const(np.array([0, 0, 9, 0, 0, -5], dtype=np.float32), "far"))
    w, s, z = small(d, 6, 5, name="w"), steps(d, 5, "s"), d.const(np.arange(5).astype(np.int8), "z")
    y = d.op("DynamicQuantizeMatMul", x, w, s, z, d.floats(5, name="b"), shape=(*x.shape[:2], 5), domain=MS)
    return head(d, y)


# -------------------------------------------------------------------------------------------------- quantized layers


@cases.add("6: a[1] w[0]", "5: b[0] last[0] s[0] w[1] z[0]", opsets=(13,))
def product_of_bytes_with_a_float_result(d: Drawing) -> Drawn:
    q = quantized(d, hidden(d))
    w, s, z = small(d, 6, 5, name="w"), steps(d, 5, "s"), d.const(np.arange(5).astype(np.int8), "z")
    y = d.op(
        "MatMulIntegerToFloat", q, w, d.scalar(0.02), s, d.const(ZERO), z, d.floats(5, name="b"),
        shape=(*q.shape[:2], 5), domain=MS,
    )  # fmt: skip
    return head(d, y)


@cases.add("6: a[1] w[1]", "5: b[0] last[0] s[0] w[0] z[0]", opsets=(13,))
def quantized_gemm(d: Drawing) -> Drawn:
    """The weight transposed, a result of bytes."""
    x = d.matmul(d.input(2, 4), d.floats(4, 6, name="a"))
    w, s, z = small(d, 5, 6, name="w"), steps(d, 5, "s"), d.const(np.arange(5).astype(np.int8), "z")
    bias = d.const(d.rng.integers(-900, 900, 5).astype(np.int32), "b")
    y = d.op(
        "QGemm", quantized(d, x), d.scalar(0.02), d.const(ZERO), w, s, z, bias, d.scalar(0.02), d.const(ZERO),
        shape=(x.shape[0], 5), domain=MS, transB=1,
    )  # fmt: skip
    return head(d, floats_again(d, y))


@cases.add("5: a[1] b[1] last[0]", opsets=(13,))
def quantized_sums_and_products(d: Drawing) -> Drawn:
    x = d.input(2, 3, 4)
    p, q = (quantized(d, d.matmul(x, d.floats(4, 5, name=name))) for name in "ab")
    s, z = d.scalar(0.02), d.const(ZERO)
    y = d.op("QLinearAdd", p, s, z, q, s, z, d.scalar(0.03), z, shape=p.shape, domain=MS)
    y = d.op("QLinearMul", y, d.scalar(0.03), z, q, s, z, s, z, shape=p.shape, domain=MS)
    y = d.op("QLinearLeakyRelu", y, s, z, s, z, shape=p.shape, domain=MS, alpha=0.1)
    y = d.op("QLinearSigmoid", y, s, z, s, z, shape=p.shape, domain=MS)
    return head(d, floats_again(d, y))


@cases.add("2: a[1] last[0]", "3: b[1] last[0]", opsets=(13,))
def quantized_concatenation(d: Drawing) -> Drawn:
    x = d.input(2, 3, 4)
    p, q = (quantized(d, d.matmul(x, d.floats(4, n, name=name))) for name, n in (("a", 2), ("b", 3)))
    s, z = d.scalar(0.02), d.const(ZERO)
    y = d.op("QLinearConcat", s, z, p, s, z, q, d.scalar(0.03), z, shape=(*p.shape[:2], 5), domain=MS, axis=2)
    return head(d, floats_again(d, y))


@cases.add("4: a[0] w[1]", "5: b[0] last[0] s[0] w[0] z[0]", opsets=(13,))
def quantized_convolution_and_pools(d: Drawing) -> Drawn:
    x = d.input(1, 2, 6, 6)
    x = quantized(d, d.op("Conv", x, d.floats(4, 2, 1, 1, name="a"), shape=(x.shape[0], 4, 6, 6)))
    s, z = d.scalar(0.02), d.const(ZERO)
    p = d.op(
        "QLinearAveragePool",
        x,
        s,
        z,
        s,
        z,
        shape=(x.shape[0], 4, 3, 3),
        domain=MS,
        kernel_shape=[2, 2],
        strides=[2, 2],
    )
    w, scales, zeros = (
        small(d, 5, 4, 3, 3, name="w"),
        steps(d, 5, "s"),
        d.const(np.zeros(5, dtype=np.int8), "z"),
    )
    b = d.const(d.rng.integers(-900, 900, 5).astype(np.int32), "b")
    y = d.op("QLinearConv", p, s, z, w, scales, zeros, s, z, b, shape=(x.shape[0], 5, 3, 3), pads=[1] * 4)
    y = d.op(
        "QLinearGlobalAveragePool", y, s, z, s, z, shape=(x.shape[0], 5, 1, 1), domain=MS, channels_last=0
    )
    return head(d, d.squeeze(floats_again(d, y), 2, 3))


@cases.add("4: a[1] w[1]", "5: last[0] s[0] w[0] z[0]", opsets=(13,))
def quantized_convolution_with_channels_last(d: Drawing) -> Drawn:
    """What the runtime makes of a quantized net for machines that like channels together."""
    x = d.input(1, 6, 6, 2)
    x = quantized(d, d.matmul(x, d.floats(2, 4, name="a")))
    s, z = d.scalar(0.02), d.const(ZERO)
    w, scales, zeros = (
        small(d, 5, 4, 3, 3, name="w"),
        steps(d, 5, "s"),
        d.const(np.zeros(5, dtype=np.int8), "z"),
    )
    y = d.op(
        "QLinearConv", x, s, z, w, scales, zeros, s, z, shape=(x.shape[0], 6, 6, 5), domain=MS, pads=[1] * 4,
        channels_last=1,
    )  # fmt: skip
    y = d.op(
        "QLinearGlobalAveragePool", y, s, z, s, z, shape=(x.shape[0], 1, 1, 5), domain=MS, channels_last=1
    )
    return head(d, d.squeeze(floats_again(d, y), 1, 2))


@cases.add(
    "2: a[0]*3 w[1]",
    "2: last[0]*3 s[0]*3 w[0]*3",
    "3: a[0]*2 last[0]*2 s[0]*2 w[0]*2",
    opsets=(13,),
    symbolic=[False],
)
def quantized_convolution_in_groups(d: Drawing) -> Drawn:
    x = d.input(1, 2, 4, 4)
    x = quantized(d, d.op("Conv", x, d.floats(6, 2, 1, 1, name="a"), shape=(1, 6, 4, 4)))
    s, z = d.scalar(0.02), d.const(ZERO)
    w, zeros = small(d, 6, 2, 3, 3, name="w"), d.const(np.int8(0))
    y = d.op(
        "QLinearConv", x, s, z, w, steps(d, 6, "s"), zeros, s, z, shape=(1, 6, 4, 4), pads=[1] * 4, group=3
    )
    return head(d, d.reduce("ReduceMean", floats_again(d, y), 2, 3, keep=False))


@cases.add(opsets=(13,), pins={"a[1]": "a quantized softmax"}, moves=False)
def quantized_softmax(d: Drawing) -> Drawn:
    x = quantized(d, hidden(d))
    y = d.op("QLinearSoftmax", x, d.scalar(0.02), d.const(ZERO), d.scalar(1 / 256), d.const(np.uint8(0)),
             shape=x.shape, domain=MS, axis=-1, opset=13)  # fmt: skip
    return head(d, floats_again(d, y))


@cases.add(
    "2: b[0]*9 o[0]*3 s[0]*9 w[1]*9 z[0]*9",
    "3: b[0]*6 o[0]*2 s[0]*6 w[1]*6 z[0]*6",
    "5: a[1] w[0]",
    opsets=(13,),
)
def quantized_attention(d: Drawing) -> Drawn:
    """The projection is of bytes with a scale for each column; its dead columns hold their zero point."""
    x = quantized(d, hidden(d, 5))
    w, s, z = small(d, 5, 18, name="w"), steps(d, 18, "s"), d.const(np.arange(18).astype(np.int8), "z")
    y = d.op("QAttention", x, w, d.floats(18, name="b"), d.scalar(0.02), s, None, d.const(ZERO), z,
             shape=(*x.shape[:2], 6), domain=MS, num_heads=2)  # fmt: skip
    return d.matmul(y, d.floats(6, 3, name="o"))


def lstm(d: Drawing, x: Drawn, hidden: int, directions: int, per_channel: bool) -> Drawn:
    """Draw a quantized LSTM over [time, batch, in] with everything it may have."""
    time, batch, size = x.shape[0], x.shape[1], x.size(2)
    w = small(d, directions, size, 4 * hidden, name="W")
    r = small(d, directions, hidden, 4 * hidden, name="R")
    b = d.floats(directions, 8 * hidden, name="B")
    states = [d.floats(directions, 2, hidden, name=name) for name in "hc"]
    peepholes = d.floats(directions, 3 * hidden, name="P")
    each = (directions, 4 * hidden) if per_channel else (directions,)
    scales = [d.floats(*each, scale=0.001, offset=0.01, name=name) for name in ("Ws", "Rs")]
    zeros = [d.const(np.zeros(each, dtype=np.int8), name) for name in ("Wz", "Rz")]
    shapes = [(time, directions, batch, hidden), (directions, batch, hidden), (directions, batch, hidden)]
    y = d.ops(
        "DynamicQuantizeLSTM", x, w, r, b, None, *states, peepholes, scales[0], zeros[0], scales[1], zeros[1],
        shapes=shapes, domain=MS, hidden_size=hidden, direction="bidirectional" if directions == 2 else "forward",
    )  # fmt: skip
    return d.reduce("ReduceMean", y[0], 1, keep=False)


@cases.add(
    "4: B[1]*8 P[1]*3 R[1] R[2]*4 Rs[1]*4 Rz[1]*4 W[2]*4 Ws[1]*4 Wz[1]*4 c[2] h[2] last[0]", "5: W[1] a[1]",
    opsets=(13,), symbolic=[False],
)  # fmt: skip
def quantized_lstm(d: Drawing) -> Drawn:
    x = d.matmul(d.input(3, 2, 4), d.floats(4, 5, name="a"))
    return head(d, lstm(d, x, 4, 1, per_channel=True))


@cases.add(
    "4: B[1]*8 P[1]*3 R[1] R[2]*4 W[2]*4 c[2] h[2] last[0]", "5: W[1] a[1]", opsets=(13,), symbolic=[False]
)  # fmt: skip
def quantized_lstm_of_two_directions(d: Drawing) -> Drawn:
    x = d.matmul(d.input(3, 2, 4), d.floats(4, 5, name="a"))
    return head(d, lstm(d, x, 4, 2, per_channel=False))


@cases.add(
    "6: beta[0] gamma[0] last[0] place[1] segment[1] word[1]", opsets=(13,), pins={"word[0]": "looked up"}
)
def quantized_embedding_with_a_norm(d: Drawing) -> Drawn:
    tokens = d.input(2, 3, dtype=np.int32)
    kinds = d.op("Sub", tokens, tokens, shape=tokens.shape)
    tokens = d.op("Mod", tokens, d.const(np.int32(9)), shape=tokens.shape)
    tables = [small(d, n, 6, name=name) for n, name in ((9, "word"), (5, "place"), (2, "segment"))]
    vectors = [small(d, 6, name=name) for name in ("gamma", "beta")]
    scales = [d.scalar(0.01 * (i + 1)) for i in range(5)]
    zeros = [d.const(np.int8(i)) for i in range(5)]
    y = d.ops(
        "QEmbedLayerNormalization", tokens, kinds, *tables, *vectors, None, *scales, *zeros,
        shapes=[(*tokens.shape, 6), (tokens.shape[0],)], domain=MS,
    )[0]  # fmt: skip
    return head(d, y)


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)


@pytest.mark.parametrize(
    "name", ["quantized-by-its-own-range", "quantized-gemm", "quantized-lstm", "quantized-attention"]
)
def test_without_its_masks_the_proof_fails(name: str) -> None:
    model = next(case for case in cases if case.name == name and not case.symbolic).model()
    found = groups(model)
    dead = random_dead(found, np.random.default_rng(1), untouched=0)
    assert removal(model, found, dead).error < FLOAT32
    found.analysis.mixes.clear()
    assert removal(model, found, dead).error > 1e-3
