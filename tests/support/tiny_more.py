"""More steps of tiny graphs: the operators of `exhaustive_more`."""

from tests.support.drawing import Drawing, Drawn, Unfit


def axis_of(x: Drawn) -> int:
    return 1 if len(x.shape) == 4 else len(x.shape) - 1


def lifted(d: Drawing, x: Drawn, out: int) -> Drawn:
    return d.conv(x, out, 1, bias=False) if len(x.shape) == 4 else d.linear(x, out, bias=False)


def function(d: Drawing, x: Drawn) -> Drawn:
    kinds = (
        "Abs",
        "Atan",
        "Cos",
        "Dropout",
        "Floor",
        "HardSwish",
        "Round",
        "Selu",
        "Shrink",
        "Sign",
        "Softsign",
        "Celu",
    )
    return d.unary(str(d.rng.choice(kinds)), x)


def together(d: Drawing, x: Drawn) -> Drawn:
    """Two or three operands place by place, one of them a layer of x or a vector."""
    if x.size(axis_of(x)) > 3:
        raise Unfit("too wide for trying everything")
    c = x.size(axis_of(x))
    other = lifted(d, x, c) if d.chance(0.5) else d.floats(*([c, 1, 1] if len(x.shape) == 4 else [c]))
    kind = str(d.rng.choice(["Mean", "Sum", "PRelu", "Mod", "Where"]))
    if kind == "Where":
        return d.binary("Where", d.binary("Greater", x, other), x, d.unary("Tanh", x))
    if kind == "PRelu" and len(other.shape) == len(x.shape):
        raise Unfit("slopes are stored")
    return d.binary(kind, x, other, **({"fmod": 1} if kind == "Mod" else {}))


def reduced(d: Drawing, x: Drawn) -> Drawn:
    """See four channels as a product and reduce one factor."""
    if len(x.shape) == 4 or x.size(-1) != 4:
        raise Unfit("not four")
    sizes = [int(size) for size in x.shape]
    y = d.reshape(x, *sizes[:-1], 2, 2)
    kind = str(d.rng.choice(["ReduceL1", "ReduceL2", "ReduceMin", "ReduceProd", "ReduceSumSquare"]))
    return d.reduce(kind, y, len(x.shape) - d.pick(0, 1), keep=False)


def normal(d: Drawing, x: Drawn) -> Drawn:
    return d.op(str(d.rng.choice(["LogSoftmax", "LpNormalization"])), x, shape=x.shape, axis=axis_of(x))


def einsum(d: Drawing, x: Drawn) -> Drawn:
    """A layer written as a sum of products, its weight either way round."""
    if len(x.shape) == 4:
        raise Unfit("no map")
    letters, out = "ab"[: len(x.shape) - 1], d.pick(2, 3)
    turned = d.chance(0.5)
    weight = d.floats(*((out, x.size(-1)) if turned else (x.size(-1), out)))
    term = "dc" if turned else "cd"
    shape = (*x.shape[:-1], out)
    return d.op("Einsum", x, weight, shape=shape, equation=f"{letters}c,{term}->{letters}d")


def transposed(d: Drawing, x: Drawn) -> Drawn:
    if len(x.shape) != 4:
        raise Unfit("no map")
    out = d.pick(2, 3)
    bias = d.floats(out) if d.chance(0.5) else None
    shape = (x.shape[0], out, *x.shape[2:])
    return d.op("ConvTranspose", x, d.floats(x.size(1), out, 1, 1), bias, shape=shape, kernel_shape=[1, 1])


def each_channel(d: Drawing, x: Drawn) -> Drawn:
    """A norm of each channel, or a pool with a window of one place."""
    if len(x.shape) != 4:
        raise Unfit("no map")
    c = x.size(1)
    kind = str(d.rng.choice(["InstanceNormalization", "MaxPool", "AveragePool", "LpPool"]))
    if kind == "InstanceNormalization":
        return d.op(kind, x, d.floats(c, offset=1.0), d.floats(c), shape=x.shape)
    return d.op(kind, x, shape=x.shape, kernel_shape=[1, 1])


MORE = [function, together, reduced, normal, einsum, transposed, each_channel]
