"""Attention in the forms that are not plain multi-head: windows, axes, rotary tables, mixed heads, other keys."""

from math import sqrt

import numpy as np

from tests.support.blocks import block
from tests.support.blocks_seq import attend, heads_of, merged
from tests.support.drawing import Drawing, Drawn, Size, Unfit


def heads_and_dim(d: Drawing, even: bool = False) -> tuple[int, int]:
    return d.pick(2, 3, 4), d.pick(2, 4) if even else d.pick(2, 3, 4)


def projections(d: Drawing, x: Drawn, heads: int, dim: int) -> list[Drawn]:
    """Return queries, keys and values [N, heads, T, dim]."""
    return [heads_of(d, d.linear(x, heads * dim, bias=d.chance(0.6)), heads) for _ in range(3)]


def back(d: Drawing, x: Drawn, y: Drawn) -> Drawn:
    """Merge heads, project to the width of x and add."""
    return d.add(x, d.linear(merged(d, y), x.size(2)))


def scores_of(d: Drawing, q: Drawn, k: Drawn) -> Drawn:
    return d.mul(d.matmul(q, d.transpose(k, 0, 1, 3, 2)), d.scalar(1 / sqrt(q.size(3))))


@block("seq")
def multi_query(d: Drawing, x: Drawn) -> Drawn:
    """One key and value head for all queries, by broadcasting."""
    heads, dim = heads_and_dim(d)
    q = heads_of(d, d.linear(x, heads * dim), heads)
    k, v = (d.unsqueeze(d.linear(x, dim), 1) for _ in range(2))
    return back(d, x, d.matmul(d.softmax(scores_of(d, q, k)), v))


@block("seq")
def talking_heads(d: Drawing, x: Drawn) -> Drawn:
    """Scores and weights are mixed over heads, by a matrix product or by a convolution of one place."""
    heads, dim = heads_and_dim(d)
    q, k, v = projections(d, x, heads, dim)
    more = d.pick(heads, heads + 1)
    weights = d.softmax(_mixed_heads(d, scores_of(d, q, k), more))
    return back(d, x, d.matmul(_mixed_heads(d, weights, heads), v))


def _mixed_heads(d: Drawing, x: Drawn, out: int) -> Drawn:
    if d.chance(0.5):
        return d.conv(x, out, 1)
    return d.transpose(d.linear(d.transpose(x, 0, 2, 3, 1), out), 0, 3, 1, 2)


@block("seq")
def relative_bias(d: Drawing, x: Drawn) -> Drawn:
    """A learnt table of biases per head, looked up by the distance of two places."""
    heads, dim = heads_and_dim(d)
    time = x.size(1)
    q, k, v = projections(d, x, heads, dim)
    table = d.floats(2 * time - 1, heads, scale=0.5)
    index = np.arange(time)[:, None] - np.arange(time)[None, :] + time - 1
    if d.chance(0.5):
        bias = d.op("Gather", table, d.const(index), shape=(time, time, heads), axis=0)
    else:
        bias = d.op("Gather", table, d.const(index.ravel()), shape=(time * time, heads), axis=0)
        bias = d.regroup(
            bias, [time, time, heads] if d.chance(0.5) else [time, time, -1], (time, time, heads)
        )
    bias = d.unsqueeze(d.transpose(bias, 2, 0, 1), 0)
    return back(d, x, d.matmul(d.softmax(d.add(scores_of(d, q, k), bias)), v))


@block("seq")
def rotary_halves(d: Drawing, x: Drawn) -> Drawn:
    """Rotate by a table that the graph computes from positions; the halves of a head turn together."""
    heads, dim = heads_and_dim(d, even=True)
    q, k, v = projections(d, x, heads, dim)
    whole = d.op("Shape", x, shape=[3])
    time = d.op("Gather", whole, d.const(np.int64(1)), shape=[], axis=0)
    places = d.op("Range", d.const(np.int64(0)), time, d.const(np.int64(1)), shape=(x.shape[1],))
    angle = d.unsqueeze(d.op("Cast", places, shape=places.shape, to=1), 1)
    angle = d.mul(angle, d.const((1 / 10 ** (np.arange(dim // 2) / dim)).astype(np.float32)))
    angle = d.concat(angle, angle, axis=1)
    cos, sin = d.unary("Cos", angle), d.unary("Sin", angle)
    q, k = (_turned_halves(d, each, cos, sin) for each in (q, k))
    return back(d, x, d.matmul(d.softmax(scores_of(d, q, k)), v))


def _turned_halves(d: Drawing, x: Drawn, cos: Drawn, sin: Drawn) -> Drawn:
    half = x.size(3) // 2
    a, b = (
        d.split(x, [half, half], 3) if d.chance(0.5) else (d.slice(x, 3, 0, half), d.slice(x, 3, half, 2**31))
    )
    return d.add(d.mul(x, cos), d.mul(d.concat(d.unary("Neg", b), a, axis=3), sin))


@block("seq")
def rotary_pairs(d: Drawing, x: Drawn) -> Drawn:
    """Rotate neighbours of a head: even and odd dims, taken apart by steps or by a reshape to pairs."""
    heads, dim = heads_and_dim(d, even=True)
    time = x.size(1)
    q, k, v = projections(d, x, heads, dim)
    angle = np.arange(time)[:, None] / 10.0 ** (np.arange(dim // 2) / dim)
    cos, sin = (d.const(f(angle).astype(np.float32)) for f in (np.cos, np.sin))
    q, k = (_turned_pairs(d, each, cos, sin) for each in (q, k))
    return back(d, x, d.matmul(d.softmax(scores_of(d, q, k)), v))


def _turned_pairs(d: Drawing, x: Drawn, cos: Drawn, sin: Drawn) -> Drawn:
    n, heads, time, dim = x.shape
    assert isinstance(heads, int) and isinstance(dim, int)
    if d.chance(0.5):
        a, b = d.slice(x, 3, 0, 2**31, 2), d.slice(x, 3, 1, 2**31, 2)
    else:
        pairs = d.reshape(x, 0, heads, time, dim // 2, 2)
        a, b = (d.op("Gather", pairs, d.const(np.int64(i)), shape=pairs.shape[:-1], axis=4) for i in range(2))
    first = d.binary("Sub", d.mul(a, cos), d.mul(b, sin))
    second = d.add(d.mul(a, sin), d.mul(b, cos))
    both = d.concat(d.unsqueeze(first, 4), d.unsqueeze(second, 4), axis=4)
    return d.reshape(both, 0, heads, time, dim)


@block("seq", since=23)
def rotary_operator(d: Drawing, x: Drawn) -> Drawn:
    heads, dim = heads_and_dim(d, even=True)
    time = x.size(1)
    q, k, v = projections(d, x, heads, dim)
    angle = np.arange(time)[:, None] / 10.0 ** (np.arange(dim // 2) / dim)
    n = x.shape[0]
    if isinstance(n, str):
        cos, sin = (d.const(f(angle).astype(np.float32)) for f in (np.cos, np.sin))
        places = d.expand(d.const(np.arange(time, dtype=np.int64)[None]), x, [time])
        tables = [cos, sin, places]
    else:
        tables = [d.const(np.tile(f(angle).astype(np.float32), (n, 1, 1))) for f in (np.cos, np.sin)]
    style = d.pick(0, 1)
    q, k = (d.op("RotaryEmbedding", each, *tables, shape=each.shape, interleaved=style) for each in (q, k))
    return back(d, x, d.matmul(d.softmax(scores_of(d, q, k)), v))


@block("seq")
def cross_attention(d: Drawing, x: Drawn) -> Drawn:
    """Learnt queries read the sequence, and become the sequence."""
    heads, dim = heads_and_dim(d)
    count, c = d.pick(3, 4), d.pick(4, 6)
    latents = d.expand(d.floats(1, count, c, scale=0.7), x, [count, c])
    q = heads_of(d, d.linear(latents, heads * dim), heads)
    k, v = (heads_of(d, d.linear(x, heads * dim), heads) for _ in range(2))
    return back(d, latents, d.matmul(d.softmax(scores_of(d, q, k)), v))


@block("seq")
def packed_keys(d: Drawing, x: Drawn) -> Drawn:
    """Keys and values in one matrix, taken apart as the halves of every head or as the first axis of five."""
    heads, dim = heads_and_dim(d)
    q = heads_of(d, d.linear(x, heads * dim), heads)
    both = d.linear(x, 2 * heads * dim)
    if d.chance(0.5):
        packed = d.transpose(d.reshape(both, 0, x.shape[1], heads, 2 * dim), 0, 2, 1, 3)
        k, v = d.split(packed, [dim, dim], 3)
    else:
        packed = d.transpose(d.reshape(both, 0, x.shape[1], 2, heads, dim), 2, 0, 3, 1, 4)
        k, v = (d.squeeze(part, 0) for part in d.split(packed, [1, 1], 0))
    return back(d, x, d.matmul(d.softmax(scores_of(d, q, k)), v))


@block("seq")
def cosine_attention(d: Drawing, x: Drawn) -> Drawn:
    """Queries and keys of length one, and a temperature per head."""
    heads, dim = heads_and_dim(d)
    q, k, v = projections(d, x, heads, dim)
    q, k = (d.binary("Div", t, d.clip(d.reduce("ReduceL2", t, 3), 1e-4, 1e4)) for t in (q, k))
    scores = d.mul(d.matmul(q, d.transpose(k, 0, 1, 3, 2)), d.floats(heads, 1, 1, scale=0.3, offset=2.0))
    return back(d, x, d.matmul(d.softmax(scores), v))


@block("seq")
def attention_over_channels(d: Drawing, x: Drawn) -> Drawn:
    """Channels of a head attend to each other; the tokens are summed over."""
    heads, dim = heads_and_dim(d)
    q, k, v = (d.transpose(t, 0, 1, 3, 2) for t in projections(d, x, heads, dim))
    q, k = (d.binary("Div", t, d.clip(d.reduce("ReduceL2", t, 3), 1e-3, 1e4)) for t in (q, k))
    weights = d.softmax(d.mul(d.matmul(q, d.transpose(k, 0, 1, 3, 2)), d.floats(heads, 1, 1, offset=1.0)))
    y = d.transpose(d.matmul(weights, v), 0, 3, 1, 2)
    return d.add(x, d.linear(d.reshape(y, 0, x.shape[1], heads * dim), x.size(2)))


@block("seq")
def gated_heads(d: Drawing, x: Drawn) -> Drawn:
    """Every head has a gate of its own, computed from the sequence."""
    heads, dim = heads_and_dim(d)
    q, k, v = projections(d, x, heads, dim)
    y = d.transpose(attend(d, q, k, v), 0, 2, 1, 3)
    gate = d.unsqueeze(d.unary("Sigmoid", d.linear(x, heads)), 3)
    y = d.reshape(d.mul(y, gate), 0, x.shape[1], heads * dim)
    return d.add(x, d.linear(y, x.size(2)))


@block("seq")
def class_attention(d: Drawing, x: Drawn) -> Drawn:
    """Only the first token asks; its answer replaces it."""
    heads, dim = heads_and_dim(d)
    time = x.size(1)
    q = heads_of(d, d.linear(d.slice(x, 1, 0, 1), heads * dim), heads)
    k, v = (heads_of(d, d.linear(x, heads * dim), heads) for _ in range(2))
    y = d.linear(merged(d, d.matmul(d.softmax(scores_of(d, q, k)), v)), x.size(2))
    return d.concat(d.add(y, d.slice(x, 1, 0, 1)), d.slice(x, 1, 1, time), axis=1)


@block("seq")
def masked_by_input(d: Drawing, x: Drawn) -> Drawn:
    """A second graph input says which tokens may be looked at."""
    heads, dim = heads_and_dim(d)
    q, k, v = projections(d, x, heads, dim)
    mask = d.declared((x.shape[0], x.shape[1]))
    bias = d.mul(d.binary("Sub", d.scalar(1.0), d.unsqueeze(mask, 1, 2)), d.scalar(-10.0))
    return back(d, x, d.matmul(d.softmax(d.add(scores_of(d, q, k), bias)), v))


@block("seq", since=23)
def attention_operator_masked(d: Drawing, x: Drawn) -> Drawn:
    """The operator with a bias per head or a causal mask."""
    heads, dim, time = 4, d.pick(2, 3), x.size(1)
    q, k, v = (d.linear(x, heads * dim, bias=False) for _ in range(3))
    mask = d.floats(1, heads, time, time, scale=0.5) if d.chance(0.5) else None
    y = d.op(
        "Attention", q, k, v, mask, shape=q.shape, q_num_heads=heads, kv_num_heads=heads,
        is_causal=int(mask is None),
    )  # fmt: skip
    return d.add(x, d.linear(y, x.size(2)))


# ------------------------------------------------------------------------------------------------ on feature maps


def _even(x: Drawn) -> tuple[int, int, int]:
    c, h, w = x.size(1), x.size(2), x.size(3)
    if h % 2 or w % 2 or h * w > 64:
        raise Unfit("does not part into windows of two")
    return c, h, w


def _attended(d: Drawing, x: Drawn) -> Drawn:
    """Return attention over the last but one of the axes [B, T, C], with a relative bias at times."""
    heads, dim = heads_and_dim(d)
    time, c = x.size(1), x.size(2)
    split = [-1, time, heads, dim]
    q, k, v = (
        d.transpose(d.regroup(d.linear(x, heads * dim), split, (x.shape[0], *split[1:])), 0, 2, 1, 3)
        for _ in range(3)
    )
    scores = scores_of(d, q, k)
    if d.chance(0.5):
        scores = d.add(scores, d.floats(heads, time, time, scale=0.4))
    y = d.transpose(d.matmul(d.softmax(scores), v), 0, 2, 1, 3)
    return d.linear(d.regroup(y, [-1, time, heads * dim], (x.shape[0], time, heads * dim)), c)


def _rolled(d: Drawing, x: Drawn, axis: int, by: int) -> Drawn:
    return d.concat(d.slice(x, axis, by, 2**31), d.slice(x, axis, 0, by), axis=axis)


@block("map")
def window_attention(d: Drawing, x: Drawn) -> Drawn:
    """Windows of two by two, shifted by one now and then, channels last inside."""
    c, h, w = _even(x)
    n = x.shape[0]
    many: Size = f"{n}w" if isinstance(n, str) else n * h * w // 4
    shift = d.chance(0.5)
    y = d.transpose(x, 0, 2, 3, 1)
    z = d.layer_norm(y) if d.chance(0.6) else y
    z = _rolled(d, _rolled(d, z, 1, 1), 2, 1) if shift else z
    z = d.transpose(d.reshape(z, 0, h // 2, 2, w // 2, 2, c), 0, 1, 3, 2, 4, 5)
    z = _attended(d, d.regroup(z, [-1, 4, c], (many, 4, c)))
    z = d.regroup(z, [-1, h // 2, w // 2, 2, 2, c], (n, h // 2, w // 2, 2, 2, c))
    z = d.reshape(d.transpose(z, 0, 1, 3, 2, 4, 5), 0, h, w, c)
    z = _rolled(d, _rolled(d, z, 1, h - 1), 2, w - 1) if shift else z
    return d.transpose(d.add(y, z), 0, 3, 1, 2)


@block("map")
def grid_attention(d: Drawing, x: Drawn) -> Drawn:
    """Places two by two apart attend to each other."""
    c, h, w = _even(x)
    n = x.shape[0]
    many: Size = f"{n}g" if isinstance(n, str) else n * h * w // 4
    y = d.transpose(x, 0, 2, 3, 1)
    z = d.transpose(d.reshape(y, 0, 2, h // 2, 2, w // 2, c), 0, 2, 4, 1, 3, 5)
    z = _attended(d, d.regroup(z, [-1, 4, c], (many, 4, c)))
    z = d.regroup(z, [-1, h // 2, w // 2, 2, 2, c], (n, h // 2, w // 2, 2, 2, c))
    z = d.reshape(d.transpose(z, 0, 3, 1, 4, 2, 5), 0, h, w, c)
    return d.transpose(d.add(y, z), 0, 3, 1, 2)


@block("map")
def axial_attention(d: Drawing, x: Drawn) -> Drawn:
    """Attention along the rows, five axes in the products, heads second."""
    c, h, w = x.size(1), x.size(2), x.size(3)
    if h * w > 64:
        raise Unfit("large")
    heads, dim = heads_and_dim(d)
    y = d.transpose(x, 0, 2, 3, 1)
    q, k, v = (
        d.transpose(d.reshape(d.linear(y, heads * dim), 0, h, w, heads, dim), 0, 3, 1, 2, 4) for _ in range(3)
    )
    weights = d.softmax(d.matmul(q, d.transpose(k, 0, 1, 2, 4, 3)))
    z = d.transpose(d.matmul(weights, v), 0, 2, 3, 1, 4)
    z = d.linear(d.reshape(z, 0, h, w, heads * dim), c)
    return d.transpose(d.add(y, z), 0, 3, 1, 2)


@block("map")
def attention_by_convolutions(d: Drawing, x: Drawn) -> Drawn:
    """Packed projections by a convolution of one place; heads are blocks of channels, places are last."""
    c, h, w = x.size(1), x.size(2), x.size(3)
    if h * w > 40:
        raise Unfit("large")
    heads, dim = heads_and_dim(d)
    packed = d.reshape(d.conv(x, 3 * heads * dim, 1, bias=False), 0, heads, 3 * dim, h * w)
    q, k, v = d.split(packed, [dim, dim, dim], 2)
    weights = d.softmax(d.matmul(d.transpose(q, 0, 1, 3, 2), k))
    y = d.matmul(v, d.transpose(weights, 0, 1, 3, 2))
    return d.add(x, d.conv(d.reshape(y, 0, heads * dim, h, w), c, 1))
