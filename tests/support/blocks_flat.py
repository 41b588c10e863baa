"""Blocks on vectors [N, C]."""

import numpy as np

from tests.support.blocks import block
from tests.support.blocks_map import divisor
from tests.support.drawing import Drawing, Drawn, Unfit


def width(d: Drawing) -> int:
    return d.pick(4, 6, 8, 12)


@block("flat")
def gemm(d: Drawing, x: Drawn) -> Drawn:
    return d.activate(d.linear(x, width(d), bias=d.chance(0.7)))


@block("flat")
def scaled_gemm(d: Drawing, x: Drawn) -> Drawn:
    """Gemm with its factors, its first operand stored transposed, and a bias of full rank."""
    out = width(d)
    return d.op(
        "Gemm",
        x,
        d.floats(x.size(1), out, scale=0.5),
        d.floats(1, out, scale=0.3),
        shape=(x.shape[0], out),
        alpha=0.7,
        beta=1.3,
    )


@block("flat")
def perceptron_residual(d: Drawing, x: Drawn) -> Drawn:
    return d.add(x, d.linear(d.activate(d.linear(x, width(d))), x.size(1)))


@block("flat")
def batch_norm(d: Drawing, x: Drawn) -> Drawn:
    return d.batch_norm(d.linear(x, width(d)))


@block("flat")
def towers(d: Drawing, x: Drawn) -> Drawn:
    parts = [d.activate(d.linear(x, d.pick(2, 3, 4))) for _ in range(d.pick(2, 3))]
    return d.concat(*parts)


@block("flat")
def voters(d: Drawing, x: Drawn) -> Drawn:
    out = width(d)
    kind = str(d.rng.choice(["Sum", "Max", "Min", "Mean"]))
    return d.binary(kind, *(d.linear(x, out) for _ in range(3)))


@block("flat")
def windows(d: Drawing, x: Drawn) -> Drawn:
    c = x.size(1)
    if c < 4:
        raise Unfit("thin")
    edge = d.pick(*range(2, c - 1))
    a, b = d.split(x, [edge, c - edge], 1)
    return d.concat(d.linear(b, 3), d.activate(a))


@block("flat")
def picked(d: Drawing, x: Drawn) -> Drawn:
    index = d.rng.permutation(x.size(1))[: max(2, x.size(1) // 2)]
    return d.op("Gather", x, d.const(index.astype(np.int64)), shape=(x.shape[0], len(index)), axis=1)


@block("flat")
def one_pair(d: Drawing, x: Drawn) -> Drawn:
    """Pick single positions by scalars and use them as gates."""
    gate = d.op("Gather", x, d.const(np.int64(d.pick(0, 1))), shape=(x.shape[0],), axis=1)
    return d.mul(x, d.unsqueeze(d.unary("Sigmoid", gate), 1))


@block("flat")
def grouped_sum(d: Drawing, x: Drawn) -> Drawn:
    g = divisor(d, x.size(1))
    y = d.reduce(
        str(d.rng.choice(["ReduceSum", "ReduceMean", "ReduceMax"])),
        d.reshape(x, 0, g, x.size(1) // g),
        d.pick(1, 2),
        keep=False,
    )
    return d.linear(y, width(d))


@block("flat")
def unit_length(d: Drawing, x: Drawn) -> Drawn:
    if d.chance(0.4):
        return d.op("LpNormalization", x, shape=x.shape, axis=1, p=2)
    norm = d.clip(d.reduce("ReduceL2", x, 1), 1e-3, 1e4)
    return d.binary("Div", x, norm)


@block("flat")
def softmax(d: Drawing, x: Drawn) -> Drawn:
    return d.linear(d.mul(x, d.softmax(x, 1)), width(d))


@block("flat")
def layer_norm(d: Drawing, x: Drawn) -> Drawn:
    return d.layer_norm(d.linear(x, width(d)))


@block("flat")
def bilinear(d: Drawing, x: Drawn) -> Drawn:
    """Products of pairs of features."""
    a, b = d.linear(x, 3), d.linear(x, 4)
    y = d.matmul(d.unsqueeze(a, 2), d.unsqueeze(b, 1))
    return d.linear(d.reshape(y, 0, 12), width(d))


@block("flat")
def strongest(d: Drawing, x: Drawn) -> Drawn:
    """Use the largest values, whose number is fixed."""
    y = d.linear(x, width(d))
    values, _ = d.ops("TopK", y, d.ints(2), shapes=[(x.shape[0], 2), (x.shape[0], 2)], axis=1)
    return d.concat(values, d.linear(x, 3))


@block("flat", "seq")
def as_sequence(d: Drawing, x: Drawn) -> Drawn:
    steps = divisor(d, x.size(1))
    if d.chance(0.5):
        return d.reshape(x, 0, steps, x.size(1) // steps)
    y = d.add(d.unsqueeze(x, 1), d.floats(3, 1, scale=0.5))
    return d.activate(y)


@block("flat", "map")
def as_map(d: Drawing, x: Drawn) -> Drawn:
    c = d.pick(2, 3, 4)
    return d.reshape(d.activate(d.linear(x, c * 9)), 0, c, 3, 3)
