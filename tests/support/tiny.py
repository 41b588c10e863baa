"""Tiny random graphs for the exhaustive oracle: two to four channels, three to seven operators.

Only operators whose ties the labels promise to find exactly. What is left whole on purpose (places of a map, repeated
copies) does not occur, nor do groups of several slots, which are tied as a product where equal counts would do.
"""

from collections.abc import Callable

import numpy as np

from graphrewrite.ir import Model
from graphrewrite.ir.edit import drop_unused
from tests.support.drawing import Drawing, Drawn, Style, Unfit
from tests.support.tiny_more import MORE

Step = Callable[[Drawing, Drawn], Drawn]


def tiny_model(seed: int) -> Model:
    """Draw a model of one seed on [2, C], on [1, 2, C], or on [1, C, 1, 2]."""
    rng = np.random.default_rng([seed, 3])
    d = Drawing(
        Style(
            17, symbolic=False, constant_nodes=float(rng.choice([0.0, 0.5])), computed_shapes=0.0, seed=seed
        )
    )
    kind = str(rng.choice(["flat", "seq", "map"]))
    if kind == "map":
        x = d.conv(d.input(1, 2, 1, 2), int(rng.choice([3, 4])), 1, bias=False)
    else:
        x = d.linear(d.input(*((2, 2) if kind == "flat" else (1, 2, 2))), int(rng.choice([3, 4])), bias=False)
    steps = _STEPS[kind]
    for _ in range(int(rng.integers(1, 4))):
        for number in rng.permutation(len(steps)):
            try:
                x = steps[int(number)](d, x)
            except Unfit:
                continue
            break
    model = d.model(d.conv(x, 1, 1, bias=False) if kind == "map" else d.linear(x, 1, bias=False))
    drop_unused(model.graph)
    return model


def channels(x: Drawn) -> int:
    return x.size(1) if len(x.shape) == 4 else x.size(-1)


def narrow(x: Drawn, most: int = 4) -> None:
    if channels(x) > most:
        raise Unfit("too wide for trying everything")


def axis(x: Drawn) -> int:
    return 1 if len(x.shape) == 4 else len(x.shape) - 1


def static(x: Drawn) -> list[int]:
    return [int(size) for size in x.shape]


def lift(d: Drawing, x: Drawn, out: int, bias: bool = False) -> Drawn:
    return d.conv(x, out, 1, bias=bias) if len(x.shape) == 4 else d.linear(x, out, bias)


def layer(d: Drawing, x: Drawn) -> Drawn:
    return d.unary("Relu", lift(d, x, d.pick(2, 3), bias=d.chance(0.5)))


def residual(d: Drawing, x: Drawn) -> Drawn:
    narrow(x)
    return d.add(x, d.unary("Tanh", lift(d, x, channels(x))))


def scaled(d: Drawing, x: Drawn) -> Drawn:
    shape = (channels(x), 1, 1) if len(x.shape) == 4 else (channels(x),)
    return d.mul(x, d.floats(*shape))


def joined(d: Drawing, x: Drawn) -> Drawn:
    narrow(x, 3)
    return d.concat(lift(d, x, 2), x, axis=axis(x))


def parted(d: Drawing, x: Drawn) -> Drawn:
    c = channels(x)
    if c < 3:
        raise Unfit("thin")
    a, b = d.split(x, [2, c - 2], axis(x))
    return (
        d.concat(b, d.unary("Sigmoid", a), axis=axis(x))
        if d.chance(0.5)
        else d.add(lift(d, a, 2), lift(d, b, 2))
    )


def sliced(d: Drawing, x: Drawn) -> Drawn:
    c = channels(x)
    if c < 3:
        raise Unfit("thin")
    if d.chance(0.5):
        return d.slice(x, axis(x), d.pick(0, 1), c, d.pick(1, 2) if c > 3 else 1)
    return d.slice(x, axis(x), -1, -(2**31), -1)


def picked(d: Drawing, x: Drawn) -> Drawn:
    index = d.rng.integers(0, channels(x), d.pick(2, 3)).astype(np.int64)
    shape = list(x.shape)
    shape[axis(x)] = len(index)
    return d.op("Gather", x, d.const(index), shape=shape, axis=axis(x))


def padded(d: Drawing, x: Drawn) -> Drawn:
    narrow(x, 3)
    rank, here = len(x.shape), axis(x)
    pads = [0] * 2 * rank
    pads[here], pads[here + rank] = d.pick(0, 1), 1
    y = d.pad(x, pads)
    return d.add(y, lift(d, x, channels(y)))


def gated_by_one(d: Drawing, x: Drawn) -> Drawn:
    """Use one position, by number, for all."""
    one = d.op(
        "Gather",
        x,
        d.const(np.int64(0)),
        shape=[s for i, s in enumerate(x.shape) if i != axis(x)],
        axis=axis(x),
    )
    return d.mul(x, d.unsqueeze(one, axis(x)))


def folded(d: Drawing, x: Drawn) -> Drawn:
    """See the channels as a product, scale along one factor, and go back."""
    if channels(x) != 4 or len(x.shape) == 4:
        raise Unfit("not four")
    y = d.reshape(x, *static(x)[:-1], 2, 2)
    y = d.mul(y, d.floats(2, 1) if d.chance(0.5) else d.floats(2)) if d.chance(0.7) else d.softmax(y)
    return d.reshape(y, *static(x))


def summed(d: Drawing, x: Drawn) -> Drawn:
    """See the channels as a product and reduce one factor."""
    if channels(x) != 4 or len(x.shape) == 4:
        raise Unfit("not four")
    y = d.reshape(x, *static(x)[:-1], 2, 2)
    return d.reduce(
        str(d.rng.choice(["ReduceMean", "ReduceMax"])), y, len(x.shape) - d.pick(0, 1), keep=False
    )


def flattened(d: Drawing, x: Drawn) -> Drawn:
    if len(x.shape) != 3:
        raise Unfit("no time")
    narrow(x, 3)
    wide = x.size(1) * channels(x)
    y = d.reshape(x, 1, wide) if d.chance(0.5) else d.op("Flatten", x, shape=(1, wide), axis=1)
    return d.unsqueeze(d.linear(y, 2, bias=False), 0)


def normalised(d: Drawing, x: Drawn) -> Drawn:
    if len(x.shape) == 4:
        return d.batch_norm(x)
    c = channels(x)
    return d.op("LayerNormalization", x, d.floats(c, offset=1.0), d.floats(c), shape=x.shape, axis=-1)


def softened(d: Drawing, x: Drawn) -> Drawn:
    return d.op("Softmax", x, shape=x.shape, axis=axis(x))


def grown(d: Drawing, x: Drawn) -> Drawn:
    """Repeat a single feature and add it everywhere."""
    narrow(x, 3)
    one = lift(d, x, 1)
    shape = list(x.shape)
    shape[axis(x)] = channels(x)
    target = d.ints(*(int(size) for size in shape))
    return d.add(x, d.op("Expand", one, target, shape=shape))


def attention(d: Drawing, x: Drawn) -> Drawn:
    """Two heads of two, in one batch."""
    if len(x.shape) != 3 or x.shape[:2] != (1, 2) or channels(x) > 3:
        raise Unfit("no sequence of two")
    q, k, v = (d.transpose(d.reshape(d.linear(x, 4, bias=False), 1, 2, 2, 2), 0, 2, 1, 3) for _ in range(3))
    mixed = d.matmul(d.softmax(d.matmul(q, d.transpose(k, 0, 1, 3, 2))), v)
    return d.reshape(d.transpose(mixed, 0, 2, 1, 3), 1, 2, 4)


def depthwise(d: Drawing, x: Drawn) -> Drawn:
    if len(x.shape) != 4 or channels(x) > 3:
        raise Unfit("no map")
    return d.conv(x, channels(x), 1, group=channels(x), bias=False)


def excited(d: Drawing, x: Drawn) -> Drawn:
    if len(x.shape) != 4:
        raise Unfit("no map")
    narrow(x)
    y = d.op("GlobalAveragePool", x, shape=(*x.shape[:2], 1, 1))
    return d.mul(
        x,
        d.unary("Sigmoid", d.conv(d.unary("Relu", d.conv(y, 2, 1, bias=False)), channels(x), 1, bias=False)),
    )


def shared(d: Drawing, x: Drawn) -> Drawn:
    """Use one square matrix twice."""
    if len(x.shape) == 4 or channels(x) > 3:
        raise Unfit("not square and small")
    c = channels(x)
    w = d.floats(c, c)
    return d.matmul(d.unary("Tanh", d.matmul(x, w)), w)


_ANY: list[Step] = [
    layer,
    residual,
    scaled,
    joined,
    parted,
    sliced,
    picked,
    padded,
    gated_by_one,
    normalised,
    softened,
    grown,
]
_STEPS: dict[str, list[Step]] = {
    "flat": [*_ANY, *MORE, folded, summed, shared],
    "seq": [*_ANY, *MORE, folded, summed, flattened, attention, shared],
    "map": [*_ANY, *MORE, depthwise, excited],
}
