"""Nets whose branches are concatenated, drawn so that what can go is known by construction."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Builder, Model
from tests.passes.blocks.drawn import C, T, densenet, ints, unet
from tests.passes.channels.nets import floats


def module(b: Builder, x: gs.Tensor, into: int, name: str, identity: bool = False) -> tuple[gs.Tensor, int]:
    """An Inception module: 1x1 (3 channels), 1x1 and 3x3 with squeeze and excitation (5), pool and 1x1 (2)."""
    first = b.relu(b.conv(x, 3, into, kernel=1, name=f"{name}.first"))
    second = b.relu(b.conv(b.relu(b.conv(x, 4, into, kernel=1)), 5, 4, name=f"{name}.second"))
    gate = b.relu(b.conv(b.op("GlobalAveragePool", second), 2, 5, kernel=1))
    second = b.op("Mul", second, b.op("Sigmoid", b.conv(gate, 5, 2, kernel=1)))
    pooled = b.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    third = b.relu(b.conv(pooled, 2, into, kernel=1, name=f"{name}.third"))
    parts = [first, second, third, *([x] if identity else [])]
    return b.op("Concat", *parts, axis=1, name=name), 10 + (into if identity else 0)


def inception(identity: bool = False, seed: int = 0) -> Model:
    """A stem, two modules, a norm and a head."""
    b = Builder(seed=seed)
    y: gs.Tensor = b.relu(b.conv(b.input(["N", 3, 6, 6], "x"), 4, 3, name="stem"))
    width = 4
    for number in range(2):
        y, width = module(b, y, width, f"module{number}", identity)
    y = b.relu(b.batchnorm(y, width))
    flat = b.op("Flatten", b.op("GlobalAveragePool", y), axis=1)
    return b.model(b.linear(flat, out=4, into=width, name="head"))


def listed(seed: int = 0) -> Model:
    """A dense block that concatenates everything before each layer anew, norms in front of each layer."""
    b = Builder(seed=seed)
    parts: list[gs.Tensor] = [b.conv(b.input(["N", 3, 6, 6], "x"), 4, 3, name="stem")]
    for number in range(3):
        width = 4 + 3 * number
        y = parts[0] if not number else b.op("Concat", *parts, axis=1, name=f"join{number}")
        parts.append(b.conv(b.relu(b.batchnorm(y, width)), 3, width, name=f"layer{number}"))
    y = b.op("Concat", *parts, axis=1, name="join3")
    return b.model(b.conv(b.relu(b.batchnorm(y, 13)), 2, 13, name="head"))


def twice(seed: int = 0) -> Model:
    """Two branches joined, that joined with a third: the pair can go too, as one."""
    b = Builder(seed=seed)
    x = b.relu(b.conv(b.input(["N", 3, 6, 6], "x"), 4, 3))
    y = b.relu(b.conv(x, 4, 4))
    pair = b.op("Concat", b.conv(y, 3, 4), b.conv(y, 2, 4, kernel=1), axis=1, name="pair")
    y = b.op("Concat", b.relu(pair), b.conv(x, 4, 4), axis=1, name="both")
    return b.model(b.conv(y, 2, 9, name="head"))


def grouped(seed: int = 0) -> Model:
    """Branches read by a convolution with two groups: one group's inputs are the first branch."""
    b = Builder(seed=seed)
    x = b.relu(b.conv(b.input(["N", 3, 6, 6], "x"), 4, 3))
    y = b.op("Concat", *(b.conv(x, 4, 4) for _ in range(3)), axis=1, name="join")
    y = b.op("Concat", b.conv(y, 6, 12, group=2), b.conv(x, 2, 4), axis=1, name="after")
    return b.model(b.conv(y, 2, 8, name="head"))


def sequences(seed: int = 0) -> Model:
    """Three products over [N, T, C] joined along the last axis, seen as pieces of it and back, in a residual block."""
    b = Builder(seed=seed)
    x = b.op("MatMul", b.input(["N", T, 4], "x"), b.weight(4, C, name="embed"))
    parts = [b.op("MatMul", b.relu(x), b.weight(C, 6), name=f"part{n}") for n in range(3)]
    y = b.op("Concat", *parts, axis=-1, name="join")
    y = b.op("Reshape", y, b.constant(ints(0, -1, 3, 6)))
    y = b.op("Reshape", b.relu(y), b.constant(ints(0, T, 18)))
    x = b.op("Add", x, b.op("MatMul", y, b.weight(18, C)), name="sum")
    return b.model(b.op("MatMul", x, b.weight(C, 3, name="head")))


def pyramid(seed: int = 0) -> Model:
    """Pyramid pooling: means at two scales, resized to the size of the map they join, in a block around all."""
    b = Builder(seed=seed)
    x = b.relu(b.conv(b.input(["N", 3, 8, 8], "x"), 6, 3, name="stem"))
    parts: list[gs.Tensor] = [x]
    for size in (2, 4):
        small = b.op("AveragePool", x, kernel_shape=[size, size], strides=[size, size])
        small = b.relu(b.conv(small, 3, 6, kernel=1, name=f"level{size}"))
        scales = b.constant(floats([1, 1, size, size]))
        parts.append(b.op("Resize", small, None, scales, mode="nearest"))
    y = b.op("Concat", *parts, axis=1, name="pyramid")
    y = b.op("Add", x, b.conv(y, 6, 12, name="mix"), name="sum")
    return b.model(b.conv(y, 2, 6, name="head"))


def planted(seed: int = 0, dead: Sequence[str] = ("module0.second", "module1.third")) -> Model:
    """The Inception net with these layers at zero; no norm between the modules and what reads them."""
    model = inception(seed=seed)
    for node in model.nodes("Conv"):
        if node.name in dead:
            for tensor in node.inputs[1:]:
                model.weights[tensor.name] = np.zeros_like(model.weights[tensor.name])
    (norm,) = model.nodes("BatchNormalization")
    for tensor in (norm.inputs[2], norm.inputs[3]):  # offset and mean: what is zero stays zero
        model.weights[tensor.name] = np.zeros_like(model.weights[tensor.name])
    return model


JOINED: dict[str, Callable[[], Model]] = {
    "inception": inception,
    "identity": lambda: inception(identity=True),
    "densenet": densenet,
    "listed": listed,
    "twice": twice,
    "grouped": grouped,
    "sequences": sequences,
    "pyramid": pyramid,
    "unet": unet,
}
