"""Blocks that combine: experts and gates, shared weights, graph nets, modulation, odd ways to write sums."""

from math import sqrt

import numpy as np

from tests.support.blocks import block
from tests.support.blocks_map import divisor
from tests.support.drawing import Drawing, Drawn, Unfit


def width(d: Drawing) -> int:
    return d.pick(4, 6, 8)


# ------------------------------------------------------------------------------------------------ experts and gates


@block("seq")
def stacked_experts(d: Drawing, x: Drawn) -> Drawn:
    """Experts in one weight of rank three, all of them run, weighed by a gate."""
    experts, hidden, c = d.pick(2, 3, 4), d.pick(3, 5), x.size(2)
    gate = d.softmax(d.linear(x, experts, bias=d.chance(0.5)))
    y = d.matmul(d.unsqueeze(x, 1), d.floats(experts, c, hidden, scale=1 / sqrt(c)))
    y = d.add(y, d.floats(experts, 1, hidden)) if d.chance(0.5) else y
    y = d.matmul(d.activate(y), d.floats(experts, hidden, c, scale=1 / sqrt(hidden)))
    y = d.mul(y, d.unsqueeze(d.transpose(gate, 0, 2, 1), 3))
    return d.add(x, d.reduce("ReduceSum", y, 1, keep=False))


@block("seq")
def experts_apart(d: Drawing, x: Drawn) -> Drawn:
    """Every expert is a perceptron of its own; its share is a window of the gate."""
    experts, c = d.pick(2, 3), x.size(2)
    gate = d.softmax(d.linear(x, experts))
    shares = (
        d.split(gate, [1] * experts, 2)
        if d.chance(0.5)
        else [d.slice(gate, 2, i, i + 1) for i in range(experts)]
    )
    parts = [d.mul(d.linear(d.activate(d.linear(x, d.pick(3, 5))), c), share) for share in shares]
    return d.binary("Sum", x, *parts)


@block("seq", since=12)
def experts_by_einsum(d: Drawing, x: Drawn) -> Drawn:
    experts, hidden, c = d.pick(2, 3), d.pick(3, 5), x.size(2)
    gate = d.softmax(d.linear(x, experts))
    shape = (*x.shape[:2], experts, hidden)
    y = d.op(
        "Einsum", x, d.floats(experts, c, hidden, scale=1 / sqrt(c)), shape=shape, equation="ntc,ech->nteh"
    )
    back = d.floats(experts, hidden, c, scale=1 / sqrt(hidden))
    y = d.op("Einsum", d.activate(y), back, gate, shape=x.shape, equation="nteh,ehc,nte->ntc")
    return d.add(x, y)


@block("seq")
def strongest_experts(d: Drawing, x: Drawn) -> Drawn:
    """Only the two best of the gate count: the others are set to nothing by comparing with the second best."""
    experts, c = 4, x.size(2)
    gate = d.softmax(d.linear(x, experts))
    best, _ = d.ops("TopK", gate, d.ints(2), shapes=[(*x.shape[:2], 2)] * 2, axis=-1)
    kept = d.binary("Less", gate, d.slice(best, 2, 1, 2))
    gate = d.binary("Where", kept, d.scalar(0.0), gate)
    y = d.matmul(d.unsqueeze(x, 1), d.floats(experts, c, c, scale=1 / sqrt(c)))
    y = d.mul(d.activate(y), d.unsqueeze(d.transpose(gate, 0, 2, 1), 3))
    return d.reduce("ReduceSum", y, 1, keep=False)


@block("flat")
def gated_towers(d: Drawing, x: Drawn) -> Drawn:
    """Several towers stacked on a new axis and weighed by a gate over it."""
    out, towers = width(d), d.pick(2, 3)
    parts = [d.unsqueeze(d.activate(d.linear(x, out)), 1) for _ in range(towers)]
    gate = d.unsqueeze(d.softmax(d.linear(x, towers)), 2)
    return d.reduce("ReduceSum", d.mul(d.concat(*parts), gate), 1, keep=False)


@block("seq")
def geglu(d: Drawing, x: Drawn) -> Drawn:
    """A gate of an uneven window: the halves come by Slice."""
    hidden, c = d.pick(4, 6), x.size(2)
    y = d.linear(x, 2 * hidden)
    a, b = d.slice(y, 2, 0, hidden), d.slice(y, -1 + len(x.shape), -hidden, 2**31)
    return d.add(x, d.linear(d.mul(a, d.unary("Erf", b)), c))


# ------------------------------------------------------------------------------------------------ shared weights


@block("flat")
def twins(d: Drawing, x: Drawn) -> Drawn:
    """One tower for a vector and for the vector turned round; how far they are apart."""
    c, out = x.size(1), width(d)
    w, b, v = d.floats(c, out, scale=1 / sqrt(c)), d.floats(out), d.floats(out, out, scale=1 / sqrt(out))
    sides = [
        d.matmul(d.unary("Relu", d.add(d.matmul(side, w), b)), v)
        for side in (x, d.slice(x, 1, -1, -(2**31), -1))
    ]
    far = d.unary("Abs", d.binary("Sub", *sides))
    return d.concat(far, d.mul(*sides)) if d.chance(0.5) else far


@block("map")
def twin_branches(d: Drawing, x: Drawn) -> Drawn:
    """One filter bank on the map and on half of the map, joined again."""
    if x.size(2) % 2 or x.size(3) % 2:
        raise Unfit("odd")
    c, out = x.size(1), width(d)
    w = d.floats(out, c, 3, 3)
    shape = (x.shape[0], c, x.size(2) // 2, x.size(3) // 2)
    small = d.op("AveragePool", x, shape=shape, kernel_shape=[2, 2], strides=[2, 2])
    fine, coarse = d.conv(x, out, weight=w), d.conv(small, out, weight=w)
    scales = d.const(np.array([1, 1, 2, 2], dtype=np.float32))
    coarse = d.op(
        "Resize", coarse, d.const(np.zeros(0, np.float32)), scales, shape=fine.shape, mode="nearest"
    )
    return d.activate(d.add(fine, coarse))


@block("seq")
def soft_words(d: Drawing, x: Drawn) -> Drawn:
    """Compare with every row of an embedding and look the mixture up again: one table, read both ways."""
    c = x.size(2)
    table = next((t for t in d.tables if t.shape[1] == c), None)
    if table is None:
        table = d.floats(9, c, scale=0.7)
        d.tables.append(table)
    flip = d.transpose(table, 1, 0)
    return d.add(x, d.matmul(d.softmax(d.matmul(x, flip)), table))


@block("seq")
def repeated_layer(d: Drawing, x: Drawn) -> Drawn:
    """The same layer twice in a row, as in nets that recur over depth."""
    c, hidden = x.size(2), d.pick(4, 6)
    w, v, b = (
        d.floats(c, hidden, scale=1 / sqrt(c)),
        d.floats(hidden, c, scale=1 / sqrt(hidden)),
        d.floats(hidden),
    )
    for _ in range(2):
        x = d.add(x, d.matmul(d.activate(d.add(d.matmul(x, w), b)), v))
    return x


# ------------------------------------------------------------------------------------------------ graph nets


@block("seq")
def message_passing(d: Drawing, x: Drawn) -> Drawn:
    """Nodes are steps; edges are constant; messages are gathered and added up at their ends."""
    c, nodes, edges = x.size(2), x.size(1), 6
    source, end = (d.rng.integers(0, nodes, edges).astype(np.int64) for _ in range(2))
    sent = d.op("Gather", x, d.const(source), shape=(x.shape[0], edges, c), axis=1)
    got = d.op("Gather", x, d.const(end), shape=(x.shape[0], edges, c), axis=1)
    message = d.activate(d.linear(d.concat(sent, d.binary("Sub", sent, got), axis=2), c))
    sums = np.zeros((nodes, edges), dtype=np.float32)
    sums[end, np.arange(edges)] = 1
    return d.add(x, d.linear(d.matmul(d.const(sums), message), c))


@block("seq", since=16)
def scattered_messages(d: Drawing, x: Drawn) -> Drawn:
    """Messages are added by ScatterElements or ScatterND onto zeros."""
    c, nodes, edges, n = x.size(2), x.size(1), 6, x.shape[0]
    source, end = (d.rng.integers(0, nodes, edges).astype(np.int64) for _ in range(2))
    message = d.linear(d.op("Gather", x, d.const(source), shape=(n, edges, c), axis=1), c)
    if d.chance(0.5):
        index = d.expand(d.const(end[None, :, None]), x, [edges, c])
        zeros = d.mul(x, d.scalar(0.0))
        y = d.op("ScatterElements", zeros, index, message, shape=x.shape, axis=1, reduction="add")
    else:
        first = d.mul(d.transpose(x, 1, 0, 2), d.scalar(0.0))
        y = d.op(
            "ScatterND",
            first,
            d.const(end[:, None]),
            d.transpose(message, 1, 0, 2),
            shape=first.shape,
            reduction="add",
        )
        y = d.transpose(y, 1, 0, 2)
    return d.add(x, d.linear(d.activate(y), c))


@block("seq")
def neighbourhood(d: Drawing, x: Drawn) -> Drawn:
    """A constant adjacency times the features, and attention between neighbours only."""
    c, nodes, out = x.size(2), x.size(1), width(d)
    linked = d.rng.random((nodes, nodes)) < 0.5
    np.fill_diagonal(linked, True)
    if d.chance(0.4):
        degree = (linked / linked.sum(axis=1, keepdims=True)).astype(np.float32)
        return d.activate(d.linear(d.matmul(d.const(degree), x), out))
    y = d.linear(x, out, bias=False)
    a, b = d.linear(y, 1, bias=False), d.linear(y, 1, bias=False)
    scores = d.op("LeakyRelu", d.add(a, d.transpose(b, 0, 2, 1)), shape=(x.shape[0], nodes, nodes), alpha=0.2)
    scores = d.binary("Where", d.const(linked), scores, d.scalar(-1e9))
    assert c
    return d.activate(d.matmul(d.softmax(scores), y))


# ------------------------------------------------------------------------------------------------ modulation


@block("map")
def modulated(d: Drawing, x: Drawn) -> Drawn:
    """Scale and shift per channel computed from the map, after a norm of each channel."""
    c = x.size(1)
    y = d.op(
        "InstanceNormalization",
        x,
        d.const(np.ones(c, np.float32)),
        d.const(np.zeros(c, np.float32)),
        shape=x.shape,
    )
    style = d.linear(d.reduce("ReduceMean", x, 2, 3, keep=False), 2 * c)
    if d.chance(0.5):
        scale, shift = d.split(d.unsqueeze(style, 2, 3), [c, c], 1)
    else:
        pair = d.reshape(style, 0, 2, c, 1, 1)
        scale, shift = (
            d.op("Gather", pair, d.const(np.int64(i)), shape=(x.shape[0], c, 1, 1), axis=1) for i in range(2)
        )
    return d.add(d.mul(y, d.add(scale, d.scalar(1.0))), shift)


@block("seq")
def modulated_steps(d: Drawing, x: Drawn) -> Drawn:
    """Six vectors from one, as in diffusion transformers, three of them used."""
    c = x.size(2)
    style = d.linear(d.unary("Sigmoid", d.reduce("ReduceMean", x, 1)), 3 * c)
    shift, scale, gate = d.split(style, [c, c, c], 2)
    y = d.add(d.mul(d.layer_norm(x), d.add(scale, d.scalar(1.0))), shift)
    return d.add(x, d.mul(gate, d.linear(d.activate(d.linear(y, width(d))), c)))


@block("flat")
def crossed(d: Drawing, x: Drawn) -> Drawn:
    """Crosses of features with themselves, as in recommenders."""
    c = x.size(1)
    if d.chance(0.5):
        return d.add(d.mul(x, d.linear(x, 1)), x)
    groups = divisor(d, c)
    y = d.reshape(x, 0, groups, c // groups)
    pairs = d.matmul(y, d.transpose(y, 0, 2, 1))
    return d.concat(x, d.reshape(pairs, 0, groups * groups))


@block("flat")
def factors(d: Drawing, x: Drawn) -> Drawn:
    """The square of a sum less the sum of squares over fields."""
    fields, c = d.pick(2, 3), width(d)
    y = d.reshape(d.linear(x, fields * c), 0, fields, c)
    total = d.reduce("ReduceSum", y, 1, keep=False)
    squares = d.reduce("ReduceSum", d.mul(y, y), 1, keep=False)
    return d.binary("Sub", d.mul(total, total), squares)


@block("map")
def dynamic_filter(d: Drawing, x: Drawn) -> Drawn:
    """Every sample has a matrix of its own over the channels, generated from its mean."""
    c, out = x.size(1), d.pick(3, 4)
    h, w = x.size(2), x.size(3)
    matrix = d.reshape(d.linear(d.reduce("ReduceMean", x, 2, 3, keep=False), out * c), 0, out, c)
    y = d.matmul(matrix, d.reshape(x, 0, c, h * w))
    return d.reshape(y, 0, out, h, w)


@block("map")
def mixed_filters(d: Drawing, x: Drawn) -> Drawn:
    """Selective kernels: branches weighed against each other per channel."""
    c = x.size(1)
    parts = [d.activate(d.conv(x, c, kernel)) for kernel in (1, 3)]
    squeezed = d.reduce("ReduceMean", d.add(*parts), 2, 3, keep=False)
    shares = d.reshape(d.linear(d.activate(d.linear(squeezed, 3)), 2 * c), 0, 2, c)
    shares = d.unsqueeze(d.softmax_over(shares, 1), 3, 4)
    both = d.concat(*(d.unsqueeze(part, 1) for part in parts))
    return d.reduce("ReduceSum", d.mul(both, shares), 1, keep=False)


@block("map")
def batch_statistics(d: Drawing, x: Drawn) -> Drawn:
    """A norm that takes its statistics from the batch."""
    c = x.size(1)
    if d.opset < 15:
        raise Unfit("written otherwise before")
    vectors = [d.floats(c, offset=1.0), d.floats(c), d.floats(c), d.const(np.ones(c, dtype=np.float32))]
    return d.ops("BatchNormalization", x, *vectors, shapes=[x.shape, (c,), (c,)], training_mode=1)[0]


@block("map")
def lp_pool(d: Drawing, x: Drawn) -> Drawn:
    if x.size(2) < 2 or x.size(3) < 2:
        raise Unfit("small")
    shape = (*x.shape[:2], x.size(2) // 2, x.size(3) // 2)
    return d.op("LpPool", x, shape=shape, kernel_shape=[2, 2], strides=[2, 2], p=2)


@block("map")
def mean_variance(d: Drawing, x: Drawn) -> Drawn:
    """The mean-variance norm over places and batch, per channel; or over channels, which stay whole."""
    axes, y = [0, 2, 3] if d.chance(0.7) else [1], d.conv(x, width(d))
    return d.op("MeanVarianceNormalization", y, shape=y.shape, axes=axes)
