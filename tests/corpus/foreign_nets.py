"""More graphs after the habits of other exporters: converted nets with odd glue, and several axes left free at once."""

import numpy as np
import onnx
from onnx import helper

from tests.corpus.index import Feed
from tests.corpus.sketch import Hand, Sketch, hand_specs
from tests.corpus.spec import Built, Spec

PICTURE = (Feed("x", (None, 3, 32, 32)),)


def loosened(built: Built, names: dict[str, dict[int, str]]) -> Built:
    """Declare more sizes of inputs symbolic; the feeds keep one size of each."""
    for value in built.proto.graph.input:
        for axis, name in names.get(value.name, {}).items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    return built


def paddle_text() -> Built:
    """Recogniser blocks: one projection to q, k, v, Reshape by Shape-Slice-Concat, norms written out."""
    g = Sketch("paddle_text", home="node", style="p2o.{op}.{n}")
    width, heads = 32, 4

    def norm(x: str) -> str:
        centred = g.node("Sub", x, g.node("ReduceMean", x, axes=[-1], keepdims=1))
        variance = g.node("ReduceMean", g.node("Pow", centred, g.tensor(2.0)), axes=[-1], keepdims=1)
        y = g.node("Div", centred, g.node("Sqrt", g.node("Add", variance, g.tensor(1e-5))))
        return g.node("Add", g.node("Mul", y, g.vector(width, 0.7, 1.3)), g.vector(width))

    def size(x: str, axis: int) -> str:
        return g.node("Slice", g.node("Shape", x), g.tensor([axis]), g.tensor([axis + 1]), g.tensor([0]))

    x = g.node("Relu", g.norm(g.conv("x", 3, width, bias=False, strides=[4, 4]), width))
    x = g.node("Transpose", g.node("Reshape", x, g.tensor([0, width, -1])), perm=[0, 2, 1])
    for _ in range(2):
        y = g.dense(norm(x), width, 3 * width)
        target = g.node("Concat", size(y, 0), size(y, 1), g.tensor([3, heads, width // heads]), axis=0)
        y = g.node("Transpose", g.node("Reshape", y, target), perm=[2, 0, 3, 1, 4])
        q, k, v = (
            g.node("Squeeze", g.node("Slice", y, g.tensor([i]), g.tensor([i + 1]), g.tensor([0])), axes=[0])
            for i in range(3)
        )
        # Paddle's `scale` is a product and a sum, whether or not there is something to add.
        q = g.node("Add", g.node("Mul", q, g.tensor(8**-0.5)), g.tensor(0.0))
        weights = g.node("Softmax", g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2])), axis=3)
        y = g.node("Transpose", g.node("MatMul", weights, v), perm=[0, 2, 1, 3])
        y = g.node("Reshape", y, g.node("Concat", size(y, 0), size(y, 1), g.tensor([width]), axis=0))
        x = g.node("Add", x, g.dense(y, width, width))
        hidden = g.dense(norm(x), width, 64)
        x = g.node("Add", x, g.dense(g.node("Mul", hidden, g.node("Sigmoid", hidden)), 64, width))
    return g.finish(PICTURE, [(g.node("Softmax", g.dense(norm(x), width, 20), axis=2), 3)], 11)


def mxnet_padded() -> Built:
    """Pad nodes before valid convolutions, SliceChannel as Split, scalars as tensors, L2 norm, Flatten and Gemm."""
    g = Sketch("mxnet_padded", home="input", style="mx_{op}{n}_fwd")

    def layer(x: str, into: int, out: int, stride: int = 1, group: int = 1) -> str:
        x = g.node("Pad", x, pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="constant", value=0.0)
        y = g.conv(x, into, out, bias=False, strides=[stride] * 2, pads=[0, 0, 0, 0], group=group)
        gain = g.tensor(np.ones(out))  # fix_gamma
        y = g.node(
            "BatchNormalization", y, gain, g.vector(out), g.vector(out), g.vector(out, 0.6, 1.6), epsilon=1e-3
        )
        return g.node("Clip", y, min=0.0, max=6.0)

    x = layer("x", 3, 24, 2)
    a, b = g.nodes_with("Split", [x], 2, "", {"axis": 1, "split": [12, 12]})
    x = g.node("Concat", layer(a, 12, 16), layer(b, 12, 12, group=12), axis=1)
    x = layer(g.node("Mul", x, g.tensor([0.5])), 28, 32, 2)
    x = g.node("AveragePool", x, kernel_shape=[8, 8])
    x = g.node("Flatten", x)
    x = g.node("Gemm", x, g.weight(24, 32), g.vector(24), transB=1)
    length = g.node("ReduceL2", x, axes=[1], keepdims=1)
    x = g.node("Div", x, g.node("Add", length, g.tensor([1e-6])))
    return g.finish(PICTURE, [(g.node("Gemm", x, g.weight(10, 24), g.vector(10), transB=1), 2)], 8, ir=3)


def core_ml() -> Built:
    """A converted CoreML net: scaled input, SAME padding, norms as Mul and Add of [C, 1, 1]."""
    g = Sketch("core_ml", style="{op}{n}")

    def affine(x: str, channels: int) -> str:
        gain, offset = (
            g.tensor(g.rng.uniform(*ends, (channels, 1, 1))) for ends in ((0.7, 1.3), (-0.3, 0.3))
        )
        return g.node("Add", g.node("Mul", x, gain), offset)

    x = affine("x", 3)
    for into, out in ((3, 16), (16, 24), (24, 32)):
        x = g.conv(x, into, out, auto_pad="SAME_UPPER", strides=[2, 2])
        x = g.node("Relu", affine(x, out))
    y = g.node("Sigmoid", g.conv(g.conv(g.node("GlobalAveragePool", x), 32, 8, 1), 8, 32, 1))
    x = g.node("Mul", x, y)
    x = g.node("Reshape", x, g.tensor([-1, 32 * 16]))
    x = g.node("Gemm", x, g.weight(512, 24, fan_in=512), g.vector(24))
    x = g.node("Gemm", g.node("Relu", x), g.weight(24, 10, fan_in=24), g.vector(10))
    return g.finish(PICTURE, [(g.node("Identity", g.node("Softmax", x)), 2)], 9, ir=4)


def pyramid_detector() -> Built:
    """BiFPN: weighted sums over scales, one head for all levels, boxes decoded, non-maximum suppression at the end."""
    g = Sketch("pyramid_detector", style="{op}_{n}")
    width = 16

    def swish(x: str) -> str:
        return g.node("Mul", x, g.node("Sigmoid", x))

    def layer(x: str, into: int, out: int) -> str:
        return swish(g.norm(g.conv(x, into, out, bias=False, strides=[2, 2]), out))

    def fuse(*maps: str) -> str:
        shares = [g.node("Relu", g.tensor(g.rng.uniform(0.3, 1.0, (1,)))) for _ in maps]
        total = g.node("Add", g.node("Sum", *shares), g.tensor([1e-4]))
        parts = [g.node("Mul", m, g.node("Div", s, total)) for m, s in zip(maps, shares, strict=True)]
        x = g.conv(swish(g.node("Sum", *parts)), width, width, bias=False, group=width)
        return g.norm(g.conv(x, width, width, 1), width)

    def doubled(x: str) -> str:
        region = g.tensor(np.zeros(0))
        return g.node("Resize", x, region, g.tensor([1.0, 1.0, 2.0, 2.0]), mode="nearest")

    def halved(x: str) -> str:
        return g.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])

    low = layer("x", 3, 24)
    middle = layer(low, 24, 32)
    high = layer(middle, 32, 40)
    maps = [g.conv(m, c, width, 1) for m, c in ((low, 24), (middle, 32), (high, 40))]
    down = fuse(maps[1], doubled(maps[2]))
    first = fuse(maps[0], doubled(down))
    second = fuse(maps[1], down, halved(first))
    third = fuse(maps[2], halved(second))
    kernel, bias = g.weight(width, width, 3, 3), g.vector(width)
    boxes, scores = [], []
    box, score = (g.weight(4, width, 1, 1), g.vector(4)), (g.weight(3, width, 1, 1), g.vector(3))
    for level in (first, second, third):
        tower = swish(g.node("Conv", level, kernel, bias, pads=[1, 1, 1, 1]))
        boxes.append(
            g.node("Flatten", g.node("Transpose", g.node("Conv", tower, *box), perm=[0, 2, 3, 1]), axis=3)
        )
        scores.append(
            g.node("Flatten", g.node("Transpose", g.node("Conv", tower, *score), perm=[0, 2, 3, 1]), axis=3)
        )
    place = g.node("Sigmoid", g.node("Unsqueeze", g.node("Concat", *boxes, axis=0), axes=[0]))
    chance = g.node("Sigmoid", g.node("Unsqueeze", g.node("Concat", *scores, axis=0), axes=[0]))
    chance = g.node("Transpose", chance, perm=[0, 2, 1])
    picked = g.node("NonMaxSuppression", place, chance, g.tensor([20]), g.tensor([0.6]), g.tensor([0.2]))
    row = g.node("Squeeze", g.node("Slice", picked, g.tensor([2]), g.tensor([3]), g.tensor([1])), axes=[1])
    best = g.node("Gather", g.node("Squeeze", place, axes=[0]), row, axis=0)
    return g.finish((Feed("x", (1, 3, 32, 32)),), [(place, 3), (chance, 3), (best, 2)], 11)


def style_modulated() -> Built:
    """A style scales the kernel's inputs, the kernel's outputs are normed again (demodulation), then it convolves."""
    g = Sketch("style_modulated")
    style = g.node("LeakyRelu", g.dense("z", 16, 24), alpha=0.2)
    x = g.node("Reshape", g.dense(style, 24, 32 * 16), g.tensor([1, 32, 4, 4]))
    for into, out in ((32, 32), (32, 24)):
        scale = g.node(
            "Reshape", g.node("Add", g.dense(style, 24, into), g.tensor(1.0)), g.tensor([1, into, 1, 1])
        )
        kernel = g.node("Mul", g.weight(out, into, 3, 3), scale)
        total = g.node("ReduceSum", g.node("Mul", kernel, kernel), g.tensor([1, 2, 3]), keepdims=1)
        kernel = g.node("Div", kernel, g.node("Sqrt", g.node("Add", total, g.tensor(1e-8))))
        x = g.node("Resize", x, "", g.tensor([1.0, 1.0, 2.0, 2.0]), mode="linear")
        x = g.node("Conv", x, kernel, pads=[1, 1, 1, 1])
        x = g.node("Add", x, g.node("Mul", g.tensor(g.rng.standard_normal((1, 1, 1, 1))), g.tensor(0.1)))
        x = g.node("LeakyRelu", g.node("Add", x, g.tensor(g.rng.uniform(-0.3, 0.3, (out, 1, 1)))), alpha=0.2)
    return g.finish((Feed("z", (1, 16)),), [(g.conv(x, 24, 3, 1), 4)], 13)


def scattered_graph() -> Built:
    """Messages along edges: Gather both ends, a dense layer, ScatterElements adds with an index spread by Expand."""
    g = Sketch("scattered_graph")
    ends = [g.node("Gather", "edges", g.tensor(i), axis=0) for i in range(2)]
    x = g.node("Relu", g.dense("nodes", 8, 24))
    for into, out in ((24, 32), (32, 24)):
        both = g.node("Concat", *(g.node("Gather", x, e, axis=0) for e in ends), axis=1)
        message = g.node("Relu", g.dense(both, 2 * into, out))
        spread = g.node("Expand", g.node("Unsqueeze", ends[1], g.tensor([1])), g.node("Shape", message))
        target = g.node("Concat", g.node("Shape", x, start=0, end=1), g.tensor([out]), axis=0)
        empty = g.node("ConstantOfShape", target)
        summed = g.node("ScatterElements", empty, spread, message, axis=0, reduction="add")
        x = g.node("Relu", g.node("Add", g.dense(x, into, out), summed))
    mean = g.node("ReduceMean", x, axes=[0], keepdims=1)
    feeds = (Feed("nodes", (10, 8)), Feed("edges", (2, 24), "int64", 0, 10))
    return g.finish(feeds, [(g.dense(x, 24, 5), 2), (g.dense(mean, 24, 3), 2)], 16)


def deformed() -> Built:
    """Deformable convolution with masks in two groups of offsets, between ordinary layers."""
    g = Sketch("deformed")
    x = g.node("Relu", g.conv("x", 3, 24, strides=[2, 2]))
    offsets, mask = g.conv(x, 24, 36), g.node("Sigmoid", g.conv(x, 24, 18))
    operands = [x, g.weight(32, 24, 3, 3), offsets, g.vector(32), mask]
    shape: dict[str, int | list[int]] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "offset_group": 2}
    y = g.nodes_with("DeformConv", operands, 1, "", {**shape})[0]
    x = g.node("Relu", g.conv(g.node("Relu", y), 32, 40, strides=[2, 2]))
    x = g.conv(g.node("GlobalAveragePool", x), 40, 24, 1)
    return g.finish(PICTURE, [(g.dense(g.node("Flatten", x), 24, 10), 2)], 19, ir=9)


def kernels_made() -> Built:
    """Kernels made at run time: four convolutions mixed by weight, and a depthwise one from a dense layer."""
    g = Sketch("kernels_made")
    x = g.node("Relu", g.conv("x", 3, 16, strides=[2, 2]))
    pooled = g.node("Flatten", g.node("GlobalAveragePool", x))
    routing = g.node("Softmax", g.dense(pooled, 16, 4), axis=1)
    mixed = g.node("MatMul", routing, g.weight(4, 24 * 16 * 9, fan_in=144))
    x = g.node(
        "Relu", g.node("Conv", x, g.node("Reshape", mixed, g.tensor([24, 16, 3, 3])), pads=[1, 1, 1, 1])
    )
    pooled = g.node("Flatten", g.node("GlobalAveragePool", x))
    kernel = g.node("Reshape", g.dense(pooled, 24, 24 * 9), g.tensor([24, 1, 3, 3]))
    x = g.node("Conv", x, kernel, pads=[1, 1, 1, 1], group=24)
    x = g.node("Relu", g.conv(x, 24, 32, 1))
    x = g.node("Flatten", g.node("GlobalAveragePool", x))
    return g.finish((Feed("x", (1, 3, 32, 32)),), [(g.dense(x, 32, 10), 2)], 13)


def any_size() -> Built:
    """Batch, height and width all free: pooled context spread over the map, resized back to the input's size."""
    g = Sketch("any_size")
    near = g.node("Relu", g.norm(g.conv("x", 3, 16, strides=[2, 2]), 16))
    far = g.node("Relu", g.norm(g.conv(near, 16, 32, strides=[2, 2]), 32))
    context = g.node("Expand", g.conv(g.node("GlobalAveragePool", far), 32, 16, 1), g.node(
        "Concat", g.tensor([1, 16]), g.node("Shape", far, start=2), axis=0))  # fmt: skip
    far = g.node("Relu", g.conv(g.node("Concat", far, context, axis=1), 48, 24))
    size = g.node("Concat", g.node("Shape", far, end=2), g.node("Shape", near, start=2), axis=0)
    x = g.node("Concat", near, g.node("Resize", far, "", "", size, mode="linear"), axis=1)
    x = g.node("Relu", g.conv(x, 40, 24))
    flat = g.node("Reshape", x, g.tensor([0, 24, -1]))
    scores = g.node(
        "Softmax", g.node("MatMul", g.node("Transpose", flat, perm=[0, 2, 1]), g.weight(24, 6)), axis=1
    )
    pooled = g.node("MatMul", flat, scores)
    return loosened(
        g.finish(PICTURE, [(g.conv(x, 24, 4, 1), 4), (pooled, 3)], 15), {"x": {2: "height", 3: "width"}}
    )


def any_length() -> Built:
    """Batch and length free: rotary tables and a causal mask from Range, heads by Reshape to sizes read from Shape."""
    g = Sketch("any_length")
    width, heads = 32, 4
    size = width // heads
    x = g.node("Gather", g.weight(60, width, fan_in=2), "tokens")
    batch, length = (g.node("Shape", "tokens", start=i, end=i + 1) for i in range(2))
    last = g.node("Squeeze", length)
    steps = g.node("Range", g.tensor(0), last, g.tensor(1))
    angles = g.node("Mul", g.node("Unsqueeze", g.node("Cast", steps, to=1), g.tensor([1])), g.tensor(
        50.0 ** -(np.arange(size // 2) / (size // 2))))  # fmt: skip
    angles = g.node("Concat", angles, angles, axis=1)
    cos, sin = g.node("Cos", angles), g.node("Sin", angles)
    later = g.node(
        "Less", g.node("Unsqueeze", steps, g.tensor([1])), g.node("Unsqueeze", steps, g.tensor([0]))
    )
    split = g.node("Concat", batch, length, g.tensor([heads, size]), axis=0)
    joined = g.node("Concat", batch, length, g.tensor([width]), axis=0)

    def turned(x: str) -> str:
        a, b = g.nodes_with("Split", [x], 2, "", {"axis": 3})
        return g.node(
            "Add", g.node("Mul", x, cos), g.node("Mul", g.node("Concat", g.node("Neg", b), a, axis=3), sin)
        )

    for _ in range(2):
        y = g.node("LayerNormalization", x, g.vector(width, 0.7, 1.3), g.vector(width))
        q, k, v = (
            g.node("Transpose", g.node("Reshape", g.dense(y, width, width), split), perm=[0, 2, 1, 3])
            for _ in range(3)
        )
        scores = g.node("MatMul", g.node("Mul", turned(q), g.tensor(size**-0.5)), g.node(
            "Transpose", turned(k), perm=[0, 1, 3, 2]))  # fmt: skip
        weights = g.node("Softmax", g.node("Where", later, g.tensor(-1e9), scores), axis=-1)
        y = g.node("Transpose", g.node("MatMul", weights, v), perm=[0, 2, 1, 3])
        x = g.node("Add", x, g.dense(g.node("Reshape", y, joined), width, width))
        hidden = g.dense(x, width, 48)
        gate = g.node("Mul", hidden, g.node("Sigmoid", hidden))
        x = g.node("Add", x, g.dense(g.node("Mul", gate, g.dense(x, width, 48)), 48, width))
    return loosened(
        g.finish((Feed("tokens", (None, 10), "int64", 0, 60),), [(g.dense(x, width, 60), 3)], 17),
        {"tokens": {1: "length"}},
    )


def volume_last() -> Built:
    """3-D convolutions channels last, bias added there, then depth-to-space as Reshape, Transpose, Reshape."""
    g = Sketch("volume_last", style="StatefulPartitionedCall/model/{op}_{n}:0")
    x = "input_1"
    for into, out, stride in ((2, 16, 2), (16, 24, 1), (24, 32, 1)):
        y = g.node(
            "Conv", g.node("Transpose", x, perm=[0, 4, 1, 2, 3]), g.weight(out, into, 3, 3, 3),
            kernel_shape=[3, 3, 3], strides=[stride] * 3, pads=[1] * 6,
        )  # fmt: skip
        y = g.node("Add", g.node("Transpose", y, perm=[0, 2, 3, 4, 1]), g.vector(out))
        x = g.node("Relu", y)
    x = g.node("ReduceMax", x, axes=[1], keepdims=0)  # [N, 4, 4, 32]
    x = g.node("Reshape", x, g.tensor([-1, 4, 4, 2, 2, 8]))
    x = g.node("Reshape", g.node("Transpose", x, perm=[0, 1, 3, 2, 4, 5]), g.tensor([-1, 8, 8, 8]))
    return g.finish((Feed("input_1", (None, 8, 8, 8, 2)),), [(g.dense(x, 8, 5), 4)], 13)


def functions_with_attributes() -> Built:
    """Functions kept as dynamo keeps them: nested, with attributes passed on by reference and weights as arguments."""
    g = Sketch("functions_with_attributes")
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("pkg.torch", 1)]

    def by_reference(node: onnx.NodeProto, name: str) -> onnx.NodeProto:
        node.attribute.add(name=name, ref_attr_name=name, type=onnx.AttributeProto.FLOAT)
        return node

    norm_node = helper.make_node("LayerNormalization", ["x", "g", "b"], ["y"], axis=-1)
    norm = helper.make_function(
        "pkg.torch", "layer_norm", ["x", "g", "b"], ["y"],
        [by_reference(norm_node, "epsilon")], imports[:1], attributes=["epsilon"],
    )  # fmt: skip
    turn = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["m"]),
    ]
    linear = helper.make_function(
        "pkg.torch", "linear", ["x", "w", "b"], ["y"],
        [*turn, helper.make_node("Add", ["m", "b"], ["y"])], imports[:1],
    )  # fmt: skip
    call = helper.make_node("layer_norm", ["x", "g", "h"], ["n"], domain="pkg.torch")
    body = [
        by_reference(call, "epsilon"),
        helper.make_node("linear", ["n", "w1", "b1"], ["a"], domain="pkg.torch"),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("linear", ["r", "w2", "b2"], ["o"], domain="pkg.torch"),
        helper.make_node("Add", ["x", "o"], ["y"]),
    ]
    block = helper.make_function(
        "pkg.torch",
        "Block",
        ["x", "g", "h", "w1", "b1", "w2", "b2"],
        ["y"],
        body,
        imports,
        attributes=["epsilon"],
    )
    x = g.dense("x", 12, 24)
    for width in (48, 40):
        weights = [g.vector(24, 0.7, 1.3), g.vector(24), g.weight(width, 24), g.vector(width)]
        weights += [g.weight(24, width), g.vector(24)]
        x = g.nodes_with("Block", [x, *weights], 1, "pkg.torch", {"epsilon": 1e-5})[0]
    y = g.dense(x, 24, 6)
    return g.finish(
        (Feed("x", (None, 5, 12)),), [(y, 3)], 18, functions=[norm, linear, block], imports=imports[1:]
    )


def specs_of_source() -> list[Spec]:
    """All of the above."""
    return hand_specs("foreign", (
        Hand("paddle_text", "transformer", paddle_text, True),
        Hand("mxnet_padded", "cnn", mxnet_padded, True),
        Hand("core_ml", "cnn", core_ml, True),
        Hand("pyramid_detector", "detection", pyramid_detector, True),
        Hand("style_modulated", "gan", style_modulated),
        Hand("scattered_graph", "graph", scattered_graph),
        Hand("deformed", "cnn", deformed),
        Hand("kernels_made", "cnn", kernels_made),
        Hand("any_size", "segmentation", any_size, True),
        Hand("any_length", "transformer", any_length, True),
        Hand("volume_last", "cnn", volume_last),
        Hand("functions_with_attributes", "mlp", functions_with_attributes, True),
    ))  # fmt: skip
