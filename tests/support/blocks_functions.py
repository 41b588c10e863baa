"""Blocks of the less usual functions of one number and of two, of booleans and of integers, on any kind of tensor."""

import numpy as np

from tests.support.blocks import block
from tests.support.drawing import Drawing, Drawn

# Functions of any number; functions of numbers between -1 and 1; functions of numbers above 1.
ANYWHERE = (
    ("Atan", 11), ("Asinh", 11), ("Sinh", 11), ("Cosh", 11), ("Softsign", 11), ("Selu", 11), ("Celu", 12),
    ("Shrink", 11), ("ThresholdedRelu", 11), ("Identity", 11), ("Mish", 18), ("Swish", 24),
)  # fmt: skip
WITHIN = (("Acos", 11), ("Asin", 11), ("Atanh", 11), ("Tan", 11))
ABOVE = (("Acosh", 11), ("Log", 11))
STEPS = (("Round", 11), ("Floor", 11), ("Ceil", 11), ("Sign", 11))
KINDS = ("map", "seq", "flat")


def one_of(d: Drawing, table: tuple[tuple[str, int], ...]) -> str:
    return str(d.rng.choice([name for name, since in table if since <= d.opset]))


def along(x: Drawn) -> tuple[int, ...]:
    """Return the shape of one number per channel that broadcasts to x."""
    return (x.size(1), *[1] * (len(x.shape) - 2)) if len(x.shape) != 3 else (x.size(2),)


def anywhere(d: Drawing, x: Drawn) -> Drawn:
    return d.unary(one_of(d, ANYWHERE), x if d.chance(0.3) else d.unary("Tanh", x))


def within(d: Drawing, x: Drawn) -> Drawn:
    """An angle, of numbers that are scaled one by one."""
    return d.unary(one_of(d, WITHIN), d.mul(d.unary("Tanh", x), d.scalar(0.9)))


def above(d: Drawing, x: Drawn) -> Drawn:
    return d.unary(one_of(d, ABOVE), d.add(d.unary("Softplus", x), d.scalar(1.2)))


def steps(d: Drawing, x: Drawn) -> Drawn:
    """Whole numbers beside the numbers they come from, so that a step at most moves the result."""
    whole = d.unary(one_of(d, STEPS), d.mul(x, d.floats(*along(x), offset=2.0)))
    return d.add(x, d.mul(whole, d.scalar(0.1)))


def between(d: Drawing, x: Drawn) -> Drawn:
    """Keep what lies on one side of two thresholds per channel, by way of booleans."""
    low, high = (d.floats(*along(x), offset=offset) for offset in (-0.7, 0.7))
    since = d.opset >= 12
    a = d.binary("GreaterOrEqual" if since else "Greater", x, low)
    b = d.binary("LessOrEqual" if since else "Less", x, high)
    inside = d.binary(str(d.rng.choice(["And", "Or", "Xor"])), a, b)
    if d.chance(0.5):
        inside = d.binary("Equal", inside, d.const(np.array(True)))
    return d.binary("Where", inside, x, d.mul(x, d.floats(*along(x))))


def finite(d: Drawing, x: Drawn) -> Drawn:
    """Replace what is not a number, of which there is none."""
    odd = d.unary(str(d.rng.choice(["IsNaN", "IsInf"])), x)
    return d.binary("Where", odd, d.floats(*along(x)), x)


def bits(d: Drawing, x: Drawn) -> Drawn:
    """Some bits of whole numbers, one mask per channel."""
    whole = d.unary("Cast", d.mul(d.unary("Sigmoid", x), d.scalar(200.0)), to=6)
    mask = d.const(d.rng.integers(1, 256, along(x)).astype(np.int32))
    kind = str(d.rng.choice(["BitwiseAnd", "BitwiseOr", "BitwiseXor"]))
    y = d.binary(kind, whole, mask)
    if d.chance(0.3):
        y = d.unary("BitwiseNot", y)
    return d.add(x, d.mul(d.unary("Cast", y, to=1), d.scalar(1e-3)))


def shifted_bits(d: Drawing, x: Drawn) -> Drawn:
    """Whole numbers halved as often as each channel says."""
    whole = d.unary("Cast", d.mul(d.unary("Sigmoid", x), d.scalar(200.0)), to=12)
    by = d.const(d.rng.integers(0, 4, along(x)).astype(np.uint32))
    y = d.binary("BitShift", whole, by, direction="RIGHT")
    return d.add(x, d.mul(d.unary("Cast", y, to=1), d.scalar(1e-3)))


def remainder(d: Drawing, x: Drawn) -> Drawn:
    """What is left of a division, by one number per channel, beside x."""
    rest = d.binary("Mod", x, d.floats(*along(x), scale=0.1, offset=30.0), fmod=1)
    return d.add(x, rest)


def unchanged(d: Drawing, x: Drawn) -> Drawn:
    """Dropout, which does nothing, and a cast to the type it has."""
    y = d.op("Dropout", x, shape=x.shape)
    return d.op("CastLike", y, d.scalar(1.0), shape=x.shape) if d.opset >= 15 else y


def reduced_alone(d: Drawing, x: Drawn) -> Drawn:
    """A reduction over an axis of length one."""
    y = d.unsqueeze(d.add(d.unary("Softplus", x), d.scalar(0.5)), 1)
    kind = str(d.rng.choice(["ReduceLogSum", "ReduceMin", "ReduceL1"]))
    return d.reduce(kind, y, 1, keep=False)


for _kind in KINDS:
    for _draw, _since in (
        (anywhere, 11), (within, 11), (above, 11), (steps, 11), (between, 11), (finite, 13), (bits, 18),
        (shifted_bits, 11), (remainder, 11), (unchanged, 13), (reduced_alone, 11),
    ):  # fmt: skip
        block(_kind, since=_since)(_draw)
