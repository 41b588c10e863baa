"""Blocks that walk along time: stacked and unrolled recurrent nets, shifts, scans written as products."""

from math import sqrt

import numpy as np

from tests.support.blocks import block
from tests.support.drawing import Drawing, Drawn, Unfit


def gates_of(d: Drawing, x: Drawn, count: int, hidden: int) -> list[Drawn]:
    return d.split(x, [hidden] * count, len(x.shape) - 1)


def recurrent_weights(d: Drawing, sides: int, gates: int, hidden: int, into: int) -> list[Drawn]:
    return [
        d.floats(sides, gates * hidden, into, scale=0.4),
        d.floats(sides, gates * hidden, hidden, scale=0.4),
        d.floats(sides, 2 * gates * hidden, scale=0.3),
    ]


def long(x: Drawn) -> None:
    """Refuse sequences longer than the tables of positions."""
    if isinstance(x.shape[1], int) and x.shape[1] > 24:
        raise Unfit("long")


@block("seq")
def stacked_lstm(d: Drawing, x: Drawn) -> Drawn:
    """Two layers; both directions of the first are joined for the second."""
    hidden, n, time = d.pick(3, 4), x.shape[0], x.shape[1]
    y = d.transpose(x, 1, 0, 2)
    for sides, gates, kind in ((2, 4, "LSTM"), (1, 3, "GRU")):
        weights = recurrent_weights(d, sides, gates, hidden, y.size(2))
        name = "bidirectional" if sides == 2 else "forward"
        out, _ = d.ops(
            kind, y, *weights, shapes=[(time, sides, n, hidden), (sides, n, hidden)], hidden_size=hidden,
            direction=name,
        )  # fmt: skip
        if sides == 1:
            y = d.squeeze(out, 1)
        else:
            flat = d.transpose(out, 0, 2, 1, 3)
            y = d.op("Reshape", flat, d.ints(0, 0, -1), shape=(time, n, 2 * hidden))
    return d.transpose(y, 1, 0, 2)


@block("seq", "flat")
def last_states(d: Drawing, x: Drawn) -> Drawn:
    """The last states of both directions side by side."""
    hidden, n, time = d.pick(3, 4), x.shape[0], x.shape[1]
    weights = recurrent_weights(d, 2, 3, hidden, x.size(2))
    _, last = d.ops(
        "GRU", d.transpose(x, 1, 0, 2), *weights, shapes=[(time, 2, n, hidden), (2, n, hidden)],
        hidden_size=hidden, direction="bidirectional",
    )  # fmt: skip
    if d.chance(0.5):
        ahead, behind = (
            d.op("Gather", last, d.const(np.int64(i)), shape=(n, hidden), axis=0) for i in range(2)
        )
        return d.concat(ahead, behind)
    return d.reshape(d.transpose(last, 1, 0, 2), 0, 2 * hidden)


@block("seq")
def state_from_the_sequence(d: Drawing, x: Drawn) -> Drawn:
    """The first hidden state is computed from the mean, or is zeros of a computed shape."""
    hidden, n, time = d.pick(3, 4), x.shape[0], x.shape[1]
    if d.chance(0.5):
        start = d.unsqueeze(d.unary("Tanh", d.linear(d.reduce("ReduceMean", x, 1, keep=False), hidden)), 0)
    else:
        start = d.expand(d.floats(1, 1, hidden, scale=0.0), x, [1, hidden])
        start = d.transpose(start, 1, 0, 2)
    weights = recurrent_weights(d, 1, 3, hidden, x.size(2))
    out, _ = d.ops(
        "GRU", d.transpose(x, 1, 0, 2), *weights, None, start, shapes=[(time, 1, n, hidden), (1, n, hidden)],
        hidden_size=hidden, linear_before_reset=1,
    )  # fmt: skip
    return d.transpose(d.squeeze(out, 1), 1, 0, 2)


def _steps(d: Drawing, x: Drawn) -> list[Drawn]:
    """Take a sequence apart: by numbers, or into windows of one."""
    time, shape = x.size(1), (x.shape[0], x.shape[2])
    if time > 5:
        raise Unfit("long")
    if d.chance(0.5):
        return [d.op("Gather", x, d.const(np.int64(i)), shape=shape, axis=1) for i in range(time)]
    return [d.squeeze(part, 1) for part in d.split(x, [1] * time, 1)]


@block("seq")
def unrolled_lstm(d: Drawing, x: Drawn) -> Drawn:
    """A cell repeated for every step, its weights shared."""
    hidden = d.pick(3, 4)
    w, u, b = (
        d.floats(x.size(2), 4 * hidden, scale=0.4),
        d.floats(hidden, 4 * hidden, scale=0.4),
        d.floats(4 * hidden),
    )
    h = c = None
    outputs = []
    for step in _steps(d, x):
        total = d.add(d.matmul(step, w), b)
        total = total if h is None else d.add(total, d.matmul(h, u))
        i, f, g, o = gates_of(d, total, 4, hidden)
        new = d.mul(d.unary("Sigmoid", i), d.unary("Tanh", g))
        c = new if c is None else d.add(d.mul(d.unary("Sigmoid", f), c), new)
        h = d.mul(d.unary("Sigmoid", o), d.unary("Tanh", c))
        outputs.append(d.unsqueeze(h, 1))
    return d.concat(*outputs, axis=1)


@block("seq")
def unrolled_gru(d: Drawing, x: Drawn) -> Drawn:
    """A cell repeated for every step from a state of zeros; gates by Slice."""
    hidden, n = d.pick(3, 4), x.shape[0]
    w, u = d.floats(x.size(2), 3 * hidden, scale=0.4), d.floats(hidden, 3 * hidden, scale=0.4)
    steps = _steps(d, x)
    h = d.expand(d.floats(1, hidden, scale=0.0), x, [hidden])
    outputs = []
    for step in steps:
        a, b = d.matmul(step, w), d.matmul(h, u)
        parts = [[d.slice(t, 1, i * hidden, (i + 1) * hidden) for i in range(3)] for t in (a, b)]
        z, r = (d.unary("Sigmoid", d.add(parts[0][i], parts[1][i])) for i in range(2))
        new = d.unary("Tanh", d.add(parts[0][2], d.mul(r, parts[1][2])))
        h = d.add(d.mul(d.binary("Sub", d.scalar(1.0), z), new), d.mul(z, h))
        outputs.append(h)
    assert h.shape == (n, hidden)
    return d.concat(*(d.unsqueeze(each, 1) for each in outputs), axis=1)


@block("seq")
def time_shift(d: Drawing, x: Drawn) -> Drawn:
    """Mix every step with the one before, by a share per channel."""
    c, time = x.size(2), x.size(1)
    before = d.pad(d.slice(x, 1, 0, time - 1), [0, 1, 0, 0, 0, 0])
    share = d.unary("Sigmoid", d.floats(1, 1, c))
    mixed = d.add(d.mul(x, share), d.mul(before, d.binary("Sub", d.scalar(1.0), share)))
    return d.add(x, d.linear(d.unary("Relu", d.linear(mixed, d.pick(4, 6))), c))


@block("seq")
def rolled_channels(d: Drawing, x: Drawn) -> Drawn:
    """Push the channels round by one: as far as the ties of the sum go, all channels are one unit."""
    c = x.size(2)
    turned = d.concat(d.slice(x, 2, 1, 2**31), d.slice(x, 2, 0, 1), axis=2)
    return d.linear(d.add(x, turned), c) if d.chance(0.3) else d.linear(d.concat(x, turned, axis=2), c)


@block("seq")
def positions_by_range(d: Drawing, x: Drawn) -> Drawn:
    """Positions counted from the length at run time and looked up in a table."""
    c = x.size(2)
    long(x)
    whole = d.op("Shape", x, shape=[3])
    time = d.op("Gather", whole, d.const(np.int64(1)), shape=[], axis=0)
    places = d.op("Range", d.const(np.int64(0)), time, d.const(np.int64(1)), shape=(x.shape[1],))
    if d.chance(0.5):
        return d.add(x, d.op("Gather", d.floats(24, c, scale=0.5), places, shape=(x.shape[1], c), axis=0))
    angle = d.unsqueeze(d.op("Cast", places, shape=places.shape, to=1), 1)
    angle = d.mul(angle, d.const((1 / 10 ** (np.arange(c) / c)).astype(np.float32)))
    return d.add(x, d.unary("Sin", angle))


@block("seq")
def positions_by_slice(d: Drawing, x: Drawn) -> Drawn:
    """A table of positions cut to the length at run time."""
    c = x.size(2)
    long(x)
    whole = d.op("Shape", x, shape=[3])
    time = d.op("Gather", whole, d.ints(1), shape=[1], axis=0)
    table = d.floats(1, 24, c, scale=0.4)
    part = d.op("Slice", table, d.ints(0), time, d.ints(1), shape=(1, x.shape[1], c))
    return d.add(x, part)


@block("seq", since=14)
def causal_by_trilu(d: Drawing, x: Drawn) -> Drawn:
    """A causal mask filled in by ConstantOfShape and Trilu from the length at run time."""
    c, dim = x.size(2), d.pick(3, 4)
    whole = d.op("Shape", x, shape=[3])
    time = d.op("Gather", whole, d.ints(1), shape=[1], axis=0)
    square = d.op("Concat", time, time, shape=[2], axis=0)
    filled = d.op("ConstantOfShape", square, shape=(x.shape[1], x.shape[1]), value=_number(-1e9))
    mask = d.op("Trilu", filled, d.const(np.int64(1)), shape=filled.shape, upper=1)
    q, k, v = (d.linear(x, dim) for _ in range(3))
    scores = d.mul(d.matmul(q, d.transpose(k, 0, 2, 1)), d.scalar(1 / sqrt(dim)))
    return d.add(x, d.linear(d.matmul(d.softmax(d.add(scores, mask)), v), c))


def _number(value: float) -> object:
    import onnx_graphsurgeon as gs

    return gs.Constant("", np.array([value], dtype=np.float32))


@block("seq")
def linear_recurrence(d: Drawing, x: Drawn) -> Drawn:
    """A state space layer as running sums: exponents, products with a state of some dims, and their sum."""
    c, state = x.size(2), d.pick(2, 3)
    step = d.unary("Softplus", d.linear(x, c))
    into, out = d.linear(x, state, bias=False), d.linear(x, state, bias=False)
    decay = d.unary("Neg", d.unary("Exp", d.floats(c, state, scale=0.3)))
    grown = d.unary("Exp", d.mul(d.unsqueeze(step, 3), decay))
    fed = d.mul(d.unsqueeze(d.mul(step, x), 3), d.unsqueeze(into, 2))
    held = d.op("CumSum", d.mul(grown, fed), d.const(np.int64(1)), shape=fed.shape)
    y = d.squeeze(d.matmul(held, d.unsqueeze(out, 3)), 3)
    return d.mul(d.add(y, d.mul(x, d.floats(c))), d.unary("Sigmoid", d.linear(x, c)))


@block("seq", "flat")
def chosen_step(d: Drawing, x: Drawn) -> Drawn:
    """Take the step where a score is largest."""
    c = x.size(2)
    best = d.op("ArgMax", d.linear(x, 1), shape=(x.shape[0], 1, 1), axis=1, keepdims=1)
    index = (
        d.expand(best, x, [1, c])
        if d.chance(0.5)
        else d.op("Tile", best, d.ints(1, 1, c), shape=(x.shape[0], 1, c))
    )
    return d.squeeze(d.op("GatherElements", x, index, shape=(x.shape[0], 1, c), axis=1), 1)
