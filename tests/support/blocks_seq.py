"""Blocks on sequences [N, T, C]: layers of transformers, recurrent nets, and odd ways to write them."""

from math import sqrt

import numpy as np

from tests.support.blocks import block
from tests.support.blocks_map import divisor
from tests.support.drawing import Drawing, Drawn, Unfit


def width(d: Drawing) -> int:
    return d.pick(4, 6, 8, 12)


@block("seq")
def linear_act(d: Drawing, x: Drawn) -> Drawn:
    return d.activate(d.linear(x, width(d), bias=d.chance(0.7)))


@block("seq")
def mlp(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(2)
    return d.add(x, d.linear(d.activate(d.linear(d.layer_norm(x), 2 * d.pick(2, 4, 6))), c))


@block("seq")
def swiglu(d: Drawing, x: Drawn) -> Drawn:
    """Gate one projection with another; sometimes both are one matrix that is split."""
    c, hidden = x.size(2), d.pick(4, 6, 10)
    if d.chance(0.5):
        a, b = d.linear(x, hidden, bias=False), d.linear(x, hidden, bias=False)
    else:
        a, b = d.split(d.linear(x, 2 * hidden, bias=False), [hidden, hidden], 2)
    return d.add(x, d.linear(d.mul(d.mul(a, d.unary("Sigmoid", a)), b), c, bias=False))


@block("seq")
def rms_norm(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(2)
    square = d.reduce("ReduceMean", d.binary("Pow", x, d.scalar(2.0)), 2)
    inverse = d.unary("Reciprocal", d.unary("Sqrt", d.add(square, d.scalar(1e-6))))
    return d.linear(d.mul(d.floats(c, offset=1.0), d.mul(x, inverse)), width(d), bias=False)


@block("seq", since=23)
def rms_norm_operator(d: Drawing, x: Drawn) -> Drawn:
    return d.op("RMSNormalization", x, d.floats(x.size(2), offset=1.0), shape=x.shape, axis=-1)


def heads_of(d: Drawing, x: Drawn, heads: int) -> Drawn:
    """Return [N, heads, T, dim] of [N, T, heads * dim]."""
    y = d.reshape(x, 0, x.shape[1], heads, x.size(2) // heads)
    return d.transpose(y, 0, 2, 1, 3)


def merged(d: Drawing, x: Drawn) -> Drawn:
    """Return [N, T, heads * dim] of [N, heads, T, dim]."""
    y = d.transpose(x, 0, 2, 1, 3)
    return d.reshape(y, 0, x.shape[2], x.size(1) * x.size(3))


def scaled(d: Drawing, scores: Drawn, q: Drawn) -> Drawn:
    """Divide by the root of the head dim: as a literal, or computed from the shape at run time."""
    dim = q.size(3)
    if d.chance(0.6):
        return d.mul(scores, d.scalar(1 / sqrt(dim)))
    whole = d.op("Shape", q, shape=[4])
    last = d.op("Gather", whole, d.const(np.int64(3)), shape=[], axis=0)
    return d.binary("Div", scores, d.op("Sqrt", d.op("Cast", last, shape=[], to=1), shape=[]))


def attend(d: Drawing, q: Drawn, k: Drawn, v: Drawn) -> Drawn:
    """Softmax attention over [N, heads, T, dim], sometimes causal or with a bias per head."""
    time = q.shape[2]
    scores = scaled(d, d.matmul(q, d.transpose(k, 0, 1, 3, 2)), q)
    if isinstance(time, str) or k.shape[2] != time:
        return d.matmul(d.softmax(scores), v)
    if d.chance(0.3):
        causal = d.const(np.tril(np.ones((1, 1, time, time), dtype=bool)))
        scores = d.binary("Where", causal, scores, d.scalar(-1e9))
    if d.chance(0.3):
        scores = d.add(scores, d.floats(1, q.size(1), time, time, scale=0.5))
    return d.matmul(d.softmax(scores), v)


@block("seq")
def attention(d: Drawing, x: Drawn) -> Drawn:
    """Multi-head attention written out, q, k, v apart or packed in one matrix."""
    c = x.size(2)
    heads, dim = d.pick(2, 3, 4), d.pick(2, 3, 4)
    y = d.layer_norm(x) if d.chance(0.5) else x
    inner = heads * dim
    if d.chance(0.5):
        q, k, v = (heads_of(d, d.linear(y, inner, bias=d.chance(0.7)), heads) for _ in range(3))
    elif d.chance(0.5):
        q, k, v = (heads_of(d, part, heads) for part in d.split(d.linear(y, 3 * inner), [inner] * 3, 2))
    else:
        packed = d.reshape(d.linear(y, 3 * inner), 0, x.shape[1], 3, heads, dim)
        packed = d.transpose(packed, 2, 0, 3, 1, 4)
        q, k, v = (
            d.op("Gather", packed, d.const(np.int64(i)), shape=packed.shape[1:], axis=0) for i in range(3)
        )
    return d.add(x, d.linear(merged(d, attend(d, q, k, v)), c))


@block("seq")
def grouped_query_attention(d: Drawing, x: Drawn) -> Drawn:
    """Fewer key heads than query heads, repeated by Expand, with a rotary table now and then."""
    c, time = x.size(2), x.shape[1]
    kv, repeat, dim = d.pick(1, 2), 2, d.pick(2, 4)
    q = heads_of(d, d.linear(x, kv * repeat * dim, bias=False), kv * repeat)
    k, v = (heads_of(d, d.linear(x, kv * dim, bias=False), kv) for _ in range(2))
    if isinstance(time, int) and d.chance(0.5):
        angle = np.arange(time)[:, None] / 10.0 ** (np.arange(dim) % max(dim // 2, 1))
        cos, sin = d.const(np.cos(angle).astype(np.float32)), d.const(np.sin(angle).astype(np.float32))
        q, k = (rotated(d, each, cos, sin) for each in (q, k))
    k, v = (repeated(d, each, repeat) for each in (k, v))
    return d.add(x, d.linear(merged(d, attend(d, q, k, v)), c, bias=False))


def rotated(d: Drawing, x: Drawn, cos: Drawn, sin: Drawn) -> Drawn:
    half = x.size(3) // 2
    a, b = d.slice(x, 3, 0, half), d.slice(x, 3, half, 2**31 - 1)
    turned = d.concat(d.unary("Neg", b), a, axis=3)
    return d.add(d.mul(x, cos), d.mul(turned, sin))


def repeated(d: Drawing, x: Drawn, times: int) -> Drawn:
    """Repeat every head `times` times."""
    heads, time, dim = x.size(1), x.shape[2], x.size(3)
    y = d.expand(d.unsqueeze(x, 2), x, [heads, times, time, dim])
    return d.reshape(y, 0, heads * times, time, dim)


@block("seq", since=12)
def einsum_attention(d: Drawing, x: Drawn) -> Drawn:
    c, time = x.size(2), x.shape[1]
    heads, dim = d.pick(2, 3), d.pick(2, 3)
    q, k, v = (d.reshape(d.linear(x, heads * dim), 0, time, heads, dim) for _ in range(3))
    scores = d.op("Einsum", q, k, shape=(x.shape[0], heads, time, time), equation="nqhd,nkhd->nhqk")
    mixed = d.op("Einsum", d.softmax(scores), v, shape=q.shape, equation="nhqk,nkhd->nqhd")
    return d.linear(d.reshape(mixed, 0, time, heads * dim), c)


@block("seq", since=23)
def attention_operator(d: Drawing, x: Drawn) -> Drawn:
    c, heads, dim, kv = x.size(2), 4, d.pick(2, 3), d.pick(2, 4)
    q = d.linear(x, heads * dim, bias=False)
    k, v = d.linear(x, kv * dim, bias=False), d.linear(x, kv * dim, bias=False)
    if d.chance(0.5):
        y = d.op("Attention", q, k, v, shape=q.shape, q_num_heads=heads, kv_num_heads=kv)
    else:
        y = merged(
            d,
            d.op(
                "Attention",
                heads_of(d, q, heads),
                heads_of(d, k, kv),
                heads_of(d, v, kv),
                shape=(x.shape[0], heads, x.size(1), dim),
            ),
        )
    return d.add(x, d.linear(y, c))


@block("seq")
def linear_attention(d: Drawing, x: Drawn) -> Drawn:
    """Keys times values first; the feature map is positive."""
    c, heads, dim = x.size(2), 2, d.pick(2, 4)
    q, k, v = (heads_of(d, d.linear(x, heads * dim), heads) for _ in range(3))
    q, k = (d.unary("Softplus", each) for each in (q, k))
    context = d.matmul(d.transpose(k, 0, 1, 3, 2), v)
    total = d.reduce("ReduceSum", k, 2)
    weight = d.reduce("ReduceSum", d.mul(q, total), 3)
    return d.linear(merged(d, d.binary("Div", d.matmul(q, context), weight)), c)


@block("seq")
def batched_heads(d: Drawing, x: Drawn) -> Drawn:
    """Attention with batch and heads in one axis."""
    c, time, heads, dim = x.size(2), x.size(1), 2, d.pick(2, 3)
    if isinstance(x.shape[0], str):
        raise Unfit("the merged axis would need a name")
    n = x.size(0)
    q, k, v = (
        d.reshape(heads_of(d, d.linear(x, heads * dim), heads), n * heads, time, dim) for _ in range(3)
    )
    y = d.matmul(d.softmax(d.matmul(q, d.transpose(k, 0, 2, 1))), v)
    return d.linear(merged(d, d.reshape(y, n, heads, time, dim)), c)


@block("seq")
def recurrent(d: Drawing, x: Drawn) -> Drawn:
    """LSTM, GRU or RNN, one or both directions, with biases, peepholes and initial states at times."""
    kind = str(d.rng.choice(["LSTM", "GRU", "RNN"]))
    gates, hidden, c, time = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], d.pick(3, 4, 6), x.size(2), x.shape[1]
    direction = str(d.rng.choice(["forward", "reverse", "bidirectional"]))
    sides = 2 if direction == "bidirectional" else 1
    inputs: list[Drawn | None] = [
        d.transpose(x, 1, 0, 2),
        d.floats(sides, gates * hidden, c, scale=0.4),
        d.floats(sides, gates * hidden, hidden, scale=0.4),
        d.floats(sides, 2 * gates * hidden, scale=0.3) if d.chance(0.7) else None,
    ]
    if kind == "LSTM" and d.chance(0.2):
        inputs += [None, None, None, d.floats(sides, 3 * hidden, scale=0.3)]
    elif isinstance(x.shape[0], int) and d.chance(0.4):
        inputs += [None] + [d.floats(sides, x.size(0), hidden, scale=0.3)] * (2 if kind == "LSTM" else 1)
    attrs: dict[str, object] = {"hidden_size": hidden, "direction": direction}
    if kind == "GRU":
        attrs["linear_before_reset"] = d.pick(0, 1)
    n = x.shape[0]
    y, last = d.ops(kind, *inputs, shapes=[(time, sides, n, hidden), (sides, n, hidden)], **attrs)
    if d.chance(0.3):
        return d.transpose(last, 1, 0, 2) if sides == 2 else d.unsqueeze(d.squeeze(last, 0), 1)
    if sides == 1:
        return d.transpose(d.squeeze(y, 1), 1, 0, 2)
    joined = d.transpose(y, 2, 0, 1, 3) if d.chance(0.5) else d.transpose(y, 2, 0, 3, 1)
    return d.reshape(joined, 0, time, sides * hidden)


@block("seq")
def time_convolution(d: Drawing, x: Drawn) -> Drawn:
    y = d.activate(d.conv(d.transpose(x, 0, 2, 1), width(d)))
    return d.transpose(y, 0, 2, 1)


@block("seq")
def token_mixing(d: Drawing, x: Drawn) -> Drawn:
    """A perceptron over time, the channels apart."""
    y = d.transpose(d.layer_norm(x), 0, 2, 1)
    y = d.linear(d.activate(d.linear(y, d.pick(4, 6))), x.size(1))
    return d.add(x, d.transpose(y, 0, 2, 1))


@block("seq")
def class_token(d: Drawing, x: Drawn) -> Drawn:
    """A learnt token before the others, and learnt positions."""
    c = x.size(2)
    token = d.expand(d.floats(1, 1, c, scale=0.5), x, [1, c])
    y = d.concat(token, x, axis=1)
    return d.add(y, d.floats(1, y.size(1), c, scale=0.3))


@block("seq")
def positions(d: Drawing, x: Drawn) -> Drawn:
    return d.add(x, d.floats(x.size(1), x.size(2), scale=0.3))


@block("seq")
def layer_scale(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(2)
    return d.add(x, d.mul(d.floats(c), d.linear(d.activate(d.linear(x, width(d))), c)))


@block("seq")
def head_norm(d: Drawing, x: Drawn) -> Drawn:
    """Normalise each head by itself."""
    heads = divisor(d, x.size(2))
    y = d.reshape(x, 0, x.shape[1], heads, x.size(2) // heads)
    return d.linear(d.reshape(d.layer_norm(y), 0, x.shape[1], x.size(2)), width(d))


@block("seq")
def running_sum(d: Drawing, x: Drawn) -> Drawn:
    return d.op("CumSum", x, d.const(np.int64(1)), shape=x.shape)


@block("seq")
def key_bias_zeroed(d: Drawing, x: Drawn) -> Drawn:
    """A bias of which some rows are overwritten by constants."""
    c = 3 * d.pick(2, 3)
    rows = np.arange(c // 3, 2 * c // 3, dtype=np.int64)[:, None]
    bias = d.op(
        "ScatterND", d.floats(c), d.const(rows), d.const(np.zeros(len(rows), dtype=np.float32)), shape=(c,)
    )
    return d.add(d.op("MatMul", x, d.floats(x.size(2), c, scale=0.4), shape=(*x.shape[:2], c)), bias)


@block("seq")
def shared_matrix(d: Drawing, x: Drawn) -> Drawn:
    """Map with a matrix and back with the same matrix transposed."""
    c = x.size(2)
    w = d.floats(c, width(d), scale=1 / sqrt(c))
    y = d.activate(d.op("MatMul", x, w, shape=(*x.shape[:2], w.shape[1])))
    return d.add(x, d.op("MatMul", y, d.transpose(w, 1, 0), shape=x.shape))


@block("seq", "flat")
def mean_over_time(d: Drawing, x: Drawn) -> Drawn:
    return d.reduce(str(d.rng.choice(["ReduceMean", "ReduceMax", "ReduceL2"])), x, 1, keep=False)


@block("seq", "flat")
def one_step(d: Drawing, x: Drawn) -> Drawn:
    """Take the first or last step."""
    which = d.pick(0, -1)
    if d.chance(0.5):
        return d.op("Gather", x, d.const(np.int64(which)), shape=(x.shape[0], x.shape[2]), axis=1)
    return d.squeeze(d.slice(x, 1, 0, 1) if which == 0 else d.slice(x, 1, -1, 2**31 - 1), 1)


@block("seq", "flat")
def attention_pooling(d: Drawing, x: Drawn) -> Drawn:
    weight = d.transpose(d.linear(x, 1), 0, 2, 1)
    return d.squeeze(d.matmul(d.softmax(weight), x), 1)


@block("seq", "flat")
def flatten_time(d: Drawing, x: Drawn) -> Drawn:
    y = d.reshape(x, 0, x.size(1) * x.size(2))
    return d.linear(y, width(d))


@block("seq", "map")
def to_map(d: Drawing, x: Drawn) -> Drawn:
    time = x.size(1)
    side = int(sqrt(time))
    if side * side != time:
        raise Unfit("not a square")
    return d.reshape(d.transpose(x, 0, 2, 1), 0, x.size(2), side, side)
