"""Networks drawn for timing: real topologies and sizes, random weights, so that no download is needed."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper, numpy_helper

from graphrewrite.ir import Builder, Model


def resnet50(classes: int = 1000) -> Model:
    """Draw ResNet-50 (stride in the 3x3, batch norms as nodes): 25.6 M parameters, 4.1 GMAC at 224 x 224."""
    b = Builder()
    y = _unit(b, b.input(["N", 3, 224, 224], "image"), 3, 64, 7, stride=2)
    y = b.op("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            step = stride if block == 0 else 1
            z = _unit(b, y, channels, width, 1)
            z = _unit(b, z, width, width, 3, stride=step)
            z = _unit(b, z, width, 4 * width, 1, active=False)
            if block == 0:
                y = _unit(b, y, channels, 4 * width, 1, stride=step, active=False)
            y, channels = b.relu(b.add(z, y)), 4 * width
    return b.model(_head(b, y, channels, classes))


def mobilenet_v2(classes: int = 1000) -> Model:
    """Draw MobileNetV2 (inverted residuals, ReLU6): 3.5 M parameters, 0.30 GMAC at 224 x 224."""
    b = Builder()
    y = _unit(b, b.input(["N", 3, 224, 224], "image"), 3, 32, 3, stride=2)
    channels = 32
    plan = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    for expand, out, blocks, stride in plan:
        for block in range(blocks):
            step, wide = stride if block == 0 else 1, expand * channels
            z = _unit(b, y, channels, wide, 1, clip=True) if expand > 1 else y
            z = _unit(b, z, wide, wide, 3, stride=step, group=wide, clip=True)
            z = _unit(b, z, wide, out, 1, active=False)
            y = b.add(z, y) if step == 1 and channels == out else z
            channels = out
    return b.model(_head(b, _unit(b, y, channels, 1280, 1, clip=True), 1280, classes))


def vision_transformer(
    width: int = 384, depth: int = 12, heads: int = 6, image: int = 224, patch: int = 16, classes: int = 1000
) -> Model:
    """Draw a vision transformer (small by default: 22 M parameters, 4.6 GMAC), separate q, k, v, mean pooling."""
    b, tokens = Builder(), (image // patch) ** 2
    x = b.conv(b.input(["N", 3, image, image], "image"), width, 3, patch, stride=patch, pad=0)
    x = b.op("Transpose", b.op("Reshape", x, b.constant([0, width, tokens])), perm=[0, 2, 1])
    x = b.add(x, b.constant(0.02 * b.rng.standard_normal((1, tokens, width)).astype(np.float32)))
    size = width // heads
    for _ in range(depth):
        y = _normed(b, x, width)
        q, k, v = (
            b.op(
                "Transpose",
                b.op("Reshape", _dense(b, y, width, width), b.constant([0, 0, heads, size])),
                perm=list(perm),
            )
            for perm in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
        )
        scores = b.op("Mul", b.op("MatMul", q, k), b.constant(np.float32(size**-0.5)))
        mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        x = b.add(x, _dense(b, b.op("Reshape", mixed, b.constant([0, 0, width])), width, width))
        y = _dense(b, _normed(b, x, width), width, 4 * width)
        gate = b.op("Erf", b.op("Mul", y, b.constant(np.float32(0.5**0.5))))
        y = b.op("Mul", b.op("Mul", y, b.add(gate, b.constant(np.float32(1)))), b.constant(np.float32(0.5)))
        x = b.add(x, _dense(b, y, 4 * width, width))
    pooled = b.op("ReduceMean", _normed(b, x, width), axes=[1], keepdims=0)
    return b.model(b.linear(pooled, classes, width))


def chain(nodes: int, channels: int = 8) -> Model:
    """Draw Conv, Relu, Conv, Relu, ...: a group of channels for every second node."""
    b = Builder()
    y = b.input(["N", channels, 8, 8], "image")
    for _ in range(nodes // 2):
        y = b.relu(b.conv(y, channels, channels, 1))
    return b.model(y)


def tower(nodes: int, channels: int = 8) -> Model:
    """Draw residual blocks of seven nodes: one group runs through all of them, and each has one of its own."""
    b = Builder()
    y = b.conv(b.input(["N", 3, 8, 8], "image"), channels, 3)
    for _ in range(nodes // 7):
        z = _unit(b, y, channels, channels, 3)
        z = _unit(b, z, channels, channels, 3, active=False)
        y = b.relu(b.add(z, y))
    return b.model(y)


def encoder(nodes: int, width: int = 8, heads: int = 2, tokens: int = 4) -> Model:
    """Draw transformer blocks of 29 nodes: attention in heads, a gated unit, norms, one stream through all of them."""
    b, size = Builder(), width // heads
    x = _dense(b, b.input(["N", tokens, width], "tokens"), width, width)
    shape, flat = b.constant([0, 0, heads, size]), b.constant([0, 0, width])
    for _ in range(nodes // 29):
        y = _normed(b, x, width)
        q, k, v = (
            b.op("Transpose", b.op("Reshape", _dense(b, y, width, width), shape), perm=list(perm))
            for perm in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
        )
        scores = b.op("Mul", b.op("MatMul", q, k), b.constant(np.float32(size**-0.5)))
        mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        x = b.add(x, _dense(b, b.op("Reshape", mixed, flat), width, width))
        y = _normed(b, x, width)
        gate = b.op("Sigmoid", _dense(b, y, width, 2 * width))
        x = b.add(x, _dense(b, b.op("Mul", gate, _dense(b, y, width, 2 * width)), 2 * width, width))
    return b.model(x)


def wide(channels: int, layers: int = 4, narrow: int = 32) -> Model:
    """Draw a perceptron that widens to so many channels and narrows again, layer after layer."""
    b = Builder()
    y = b.input(["N", narrow], "x")
    for _ in range(layers):
        y = b.relu(b.linear(b.relu(b.linear(y, channels, narrow)), narrow, channels))
    return b.model(y)


def tied(words: int, width: int = 32) -> Model:
    """Draw a vocabulary of so many words whose table embeds the input and, transposed, makes the output."""
    b = Builder()
    table = b.weight(words, width)
    x = b.op("Gather", table, b.input(["N", 4], "words", np.int64))
    x = _dense(b, b.relu(_dense(b, x, width, 4 * width)), 4 * width, width)
    return b.model(b.op("MatMul", x, b.op("Transpose", table, perm=[1, 0])))


def dense(layers: int, growth: int = 4) -> Model:
    """Draw layers of which each reads all before it through one Concat that grows (DenseNet in one block)."""
    b = Builder()
    y = b.conv(b.input(["N", 3, 4, 4], "image"), growth, 3, 1)
    for layer in range(1, layers):
        y = b.concat(y, b.relu(b.conv(y, growth, growth * layer, 1)))
    return b.model(b.conv(y, 3, growth * layers, 1))


def fan(branches: int, channels: int = 4) -> Model:
    """Draw one layer split into so many branches, each with a layer of its own, joined by one Concat."""
    b = Builder()
    y = b.conv(b.input(["N", 3, 4, 4], "image"), channels * branches, 3, 1)
    parts = b.op_all("Split", y, b.constant([channels] * branches), outputs=branches, axis=1)
    joined = b.concat(*(b.relu(b.conv(part, channels, channels, 1)) for part in parts))
    return b.model(b.conv(joined, 3, channels * branches, 1))


def shared(readers: int, channels: int = 8) -> Model:
    """Draw so many layers that all read one matrix, and one vector as their bias."""
    b = Builder()
    y = b.conv(b.input(["N", 3, 4, 4], "image"), channels, 3, 1)
    weight, bias = b.weight(channels, channels, 1, 1), b.weight(channels)
    for _ in range(readers):
        y = b.relu(b.op("Conv", y, weight, bias, kernel_shape=[1, 1]))
    return b.model(b.conv(y, 3, channels, 1))


def nested(depth: int, layers: int = 10, channels: int = 8) -> Model:
    """Draw branches inside branches: each body has so many layers of its own, then the next body."""
    rng = np.random.default_rng(0)
    weights: list[onnx.TensorProto] = []

    def body(level: int, x: str) -> tuple[list[onnx.NodeProto], str]:
        nodes = []
        for layer in range(layers):
            name = f"{level}.{layer}"
            values = rng.standard_normal((channels, channels, 1, 1)).astype(np.float32)
            weights.append(numpy_helper.from_array(values, f"w{name}"))
            nodes += [
                helper.make_node("Conv", [x, f"w{name}"], [f"y{name}"], f"conv{name}"),
                helper.make_node("Relu", [f"y{name}"], [f"z{name}"], f"relu{name}"),
            ]
            x = f"z{name}"
        if level == depth:
            return nodes, x
        inner, result = body(level + 1, x)
        skip = [helper.make_node("Identity", [x], [f"skip{level}"], f"identity{level}")]
        both = {
            f"{name}_branch": helper.make_graph(made, f"{name}{level}", [], [_float(out)])
            for name, made, out in (("then", inner, result), ("else", skip, f"skip{level}"))
        }
        nodes.append(helper.make_node("If", ["take"], [f"out{level}"], f"if{level}", **both))
        return nodes, f"out{level}"

    def _float(name: str, shape: Sequence[int] | None = None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    nodes, last = body(0, "image")
    weights.append(numpy_helper.from_array(np.ones((3, channels, 1, 1), np.float32), "head"))
    nodes.append(helper.make_node("Conv", [last, "head"], ["result"], "head"))
    take = helper.make_tensor_value_info("take", onnx.TensorProto.BOOL, ())
    image, result = _float("image", (1, channels, 4, 4)), _float("result", (1, 3, 4, 4))
    graph = helper.make_graph(nodes, "nested", [image, take], [result], weights)
    return Model.from_proto(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )


GROWING: dict[str, Callable[[int], Model]] = {"chain": chain, "tower": tower, "encoder": encoder}
FIXED: dict[str, Callable[[], Model]] = {
    "resnet50": resnet50,
    "mobilenet_v2": mobilenet_v2,
    "vision_transformer": vision_transformer,
}


def _unit(
    b: Builder,
    x: gs.Variable,
    into: int,
    out: int,
    kernel: int,
    stride: int = 1,
    group: int = 1,
    active: bool = True,
    clip: bool = False,
) -> gs.Variable:
    y = b.batchnorm(b.conv(x, out, into, kernel, stride=stride, group=group, bias=False), out)
    if clip:
        return b.op("Clip", y, b.constant(np.float32(0)), b.constant(np.float32(6)))
    return b.relu(y) if active else y


def _head(b: Builder, x: gs.Variable, channels: int, classes: int) -> gs.Variable:
    return b.linear(b.op("Flatten", b.op("GlobalAveragePool", x), axis=1), classes, channels)


def _dense(b: Builder, x: gs.Variable, into: int, out: int) -> gs.Variable:
    weight = b.rng.standard_normal((into, out)).astype(np.float32) / np.float32(into**0.5)
    return b.add(b.op("MatMul", x, b.constant(weight)), b.constant(np.zeros(out, np.float32)))


def _normed(b: Builder, x: gs.Variable, width: int) -> gs.Variable:
    gain, offset = np.ones(width, np.float32), np.zeros(width, np.float32)
    return b.op("LayerNormalization", x, b.constant(gain), b.constant(offset), axis=-1)
