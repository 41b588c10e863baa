"""Graphs drawn after the habits of tf2onnx on Keras models: channels last outside, Transposes around convolutions."""

from tests.corpus.index import Feed
from tests.corpus.sketch import Hand, Sketch, hand_specs
from tests.corpus.spec import Built, Spec

STYLE = "StatefulPartitionedCall/model/{op}_{n}:0"
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def picture(size: int = 32, channels: int = 3) -> tuple[Feed, ...]:
    """A channels-last picture."""
    return (Feed("input_1", (None, size, size, channels)),)


def first(g: Sketch, x: str) -> str:
    """Channels to the second axis."""
    return g.node("Transpose", x, perm=TO_FIRST)


def last(g: Sketch, x: str) -> str:
    """Channels to the last axis."""
    return g.node("Transpose", x, perm=TO_LAST)


def clip6(g: Sketch, x: str) -> str:
    """ReLU6 with its bounds as tensors."""
    return g.node("Clip", x, g.tensor(0.0), g.tensor(6.0))


def pooled_dense(g: Sketch, x: str, channels: int, classes: int = 10) -> str:
    """Mean over height and width of a channels-last map, then a dense layer and softmax."""
    return g.node(
        "Softmax",
        g.dense(g.node("ReduceMean", last(g, x), axes=[1, 2], keepdims=0), channels, classes),
        axis=1,
    )


def flat_cnn() -> Built:
    """Flatten in channels-last order: the dense layer's rows run over height, width, channel."""
    g = Sketch("keras_flat", style=STYLE)
    x = g.node("Relu", g.conv(first(g, "input_1"), 3, 16))
    x = g.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.node("Relu", g.conv(x, 16, 24))
    x = g.node("MaxPool", x, kernel_shape=[4, 4], strides=[4, 4])
    x = g.node("Reshape", last(g, x), g.tensor([-1, 24 * 16]))
    x = g.node("Relu", g.dense(x, 24 * 16, 40))
    return g.finish(picture(), [(g.node("Softmax", g.dense(x, 40, 10), axis=-1), 2)], 13)


def mobile() -> Built:
    """Depthwise kernels, ReLU6 as Clip, strided convolutions padded asymmetrically by an explicit Pad."""
    g = Sketch("keras_mobile", style=STYLE)
    x = clip6(g, g.conv(first(g, "input_1"), 3, 16, strides=[2, 2], pads=[0, 0, 1, 1]))
    for into, out, stride in ((16, 24, 1), (24, 32, 2), (32, 32, 1)):
        wide = clip6(g, g.conv(x, into, 4 * into, 1))
        if stride == 2:
            wide = g.node("Pad", wide, g.tensor([0, 0, 0, 0, 0, 0, 1, 1]))
        deep = clip6(
            g, g.conv(wide, 4 * into, 4 * into, group=4 * into, strides=[stride] * 2, pads=[2 - stride] * 4)
        )
        y = g.conv(deep, 4 * into, out, 1)
        x = g.node("Add", x, y) if into == out and stride == 1 else y
    return g.finish(picture(), [(pooled_dense(g, x, 32), 2)], 13)


def raw_residual() -> Built:
    """Not optimised: every convolution between its own Transposes; bias, norm and ReLU run channels-last."""
    g = Sketch("keras_raw", style=STYLE)

    def layer(x: str, into: int, out: int, relu: bool = True) -> str:
        y = last(g, g.conv(first(g, x), into, out, bias=False, auto_pad="SAME_UPPER"))
        y = g.node("Add", g.node("Mul", y, g.vector(out, 0.7, 1.3)), g.vector(out))
        return g.node("Relu", y) if relu else y

    x = layer("input_1", 3, 24)
    for _ in range(2):
        x = g.node("Relu", g.node("Add", x, layer(layer(x, 24, 32), 32, 24, False)))
    x = g.dense(g.node("ReduceMean", x, axes=[1, 2], keepdims=0), 24, 10)
    return g.finish(picture(), [(x, 2)], 12)


def norm_residual() -> Built:
    """A residual net whose norms stay nodes; pre-activation, global pooling as an operator, Squeeze with an input."""
    g = Sketch("keras_norm", style=STYLE)
    x = g.conv(first(g, "input_1"), 3, 16, strides=[2, 2])
    for into, out in ((16, 16), (16, 32), (32, 32)):
        y = g.node("Relu", g.norm(x, into))
        z = g.conv(g.node("Relu", g.norm(g.conv(y, into, out, bias=False), out)), out, out)
        x = g.node("Add", x if into == out else g.conv(y, into, out, 1), z)
    pooled = g.node("GlobalAveragePool", g.node("Relu", g.norm(x, 32)))
    flat = g.node("Squeeze", pooled, g.tensor([2, 3]))
    return g.finish(picture(), [(g.dense(flat, 32, 10), 2)], 13)


def excite() -> Built:
    """Squeeze-excite with Reshape to [-1, 1, 1, C] and swish as Sigmoid and Mul, in channels-last order."""
    g = Sketch("keras_excite", style=STYLE)

    def swish(x: str) -> str:
        return g.node("Mul", x, g.node("Sigmoid", x))

    x = swish(g.conv(first(g, "input_1"), 3, 24, strides=[2, 2]))
    for _ in range(2):
        y = swish(g.conv(x, 24, 24, group=24))
        s = g.node(
            "Reshape", g.node("ReduceMean", last(g, y), axes=[1, 2], keepdims=0), g.tensor([-1, 1, 1, 24])
        )
        s = g.conv(swish(g.conv(first(g, s), 24, 6, 1)), 6, 24, 1)
        x = g.node("Add", x, g.conv(g.node("Mul", y, g.node("Sigmoid", s)), 24, 24, 1))
    return g.finish(picture(), [(pooled_dense(g, x, 24), 2)], 13)


def unet() -> Built:
    """Encoder and decoder; resizing and concatenation happen channels-last (axis 3)."""
    g = Sketch("keras_unet", style=STYLE)
    a = last(g, g.node("Relu", g.conv(first(g, "input_1"), 3, 16)))
    b = g.node("MaxPool", first(g, a), kernel_shape=[2, 2], strides=[2, 2])
    b = last(g, g.node("Relu", g.conv(b, 16, 32)))
    up = g.node(
        "Resize", first(g, b), "", g.tensor([1.0, 1.0, 2.0, 2.0]), mode="nearest", nearest_mode="floor"
    )
    joined = g.node("Concat", last(g, up), a, axis=3)
    x = last(g, g.node("Relu", g.conv(first(g, joined), 48, 16)))
    x = last(g, g.node("Sigmoid", g.conv(first(g, x), 16, 2, 1)))
    return g.finish(picture(), [(x, 4)], 13)


def transposed() -> Built:
    """A generator: dense, channels-last Reshape, transposed convolutions with output shapes cropped by Slice."""
    g = Sketch("keras_generator", style=STYLE)
    x = g.node("Reshape", g.dense("z", 20, 4 * 4 * 32), g.tensor([-1, 4, 4, 32]))
    x = first(g, x)
    for into, out in ((32, 24), (24, 16)):
        weight = g.weight(into, out, 3, 3, fan_in=into * 4)
        x = g.node(
            "ConvTranspose", x, weight, g.vector(out), kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 0, 0]
        )
        x = g.node("Slice", x, g.tensor([0, 0]), g.tensor([-1, -1]), g.tensor([2, 3]))
        x = g.node("LeakyRelu", x, alpha=0.3)
    x = last(g, g.node("Tanh", g.conv(x, 16, 3)))
    return g.finish((Feed("z", (None, 20)),), [(x, 4)], 13)


def recurrent() -> Built:
    """A Keras LSTM: time moved to the front, direction axis squeezed, last step taken by Slice and Squeeze."""
    g = Sketch("keras_lstm", style=STYLE)
    x = g.node("Transpose", "input_1", perm=[1, 0, 2])
    w, r, b = (
        g.weight(1, 4 * 20, 8, fan_in=8),
        g.weight(1, 80, 20, fan_in=20),
        g.tensor(g.rng.uniform(-0.2, 0.2, (1, 160))),
    )
    x = g.node("LSTM", x, w, r, b, hidden_size=20)
    x = g.node("Transpose", g.node("Squeeze", x, g.tensor([1])), perm=[1, 0, 2])
    step = g.node("Slice", x, g.tensor([-1]), g.tensor([9999]), g.tensor([1]))
    x = g.dense(g.node("Squeeze", step, g.tensor([1])), 20, 4)
    return g.finish((Feed("input_1", (None, 9, 8)),), [(x, 2)], 13)


def attention() -> Built:
    """Keras multi-head attention: projections and scores as Einsum, the layer norm written out with Reciprocal."""
    g = Sketch("keras_attention", style=STYLE)
    x, width, heads = "input_1", 32, 4

    def norm(x: str) -> str:
        centred = g.node("Sub", x, g.node("ReduceMean", x, axes=[2], keepdims=1))
        variance = g.node("ReduceMean", g.node("Mul", centred, centred), axes=[2], keepdims=1)
        scale = g.node("Reciprocal", g.node("Sqrt", g.node("Add", variance, g.tensor(1e-3))))
        scale = g.node("Mul", scale, g.vector(width, 0.7, 1.3))
        return g.node("Add", g.node("Mul", centred, scale), g.vector(width))

    for _ in range(2):
        y = norm(x)
        q, k, v = (
            g.node(
                "Add",
                g.node("Einsum", y, g.weight(width, heads, 8, fan_in=width), equation="abc,cde->abde"),
                g.tensor(g.rng.uniform(-0.2, 0.2, (heads, 8))),
            )
            for _ in range(3)
        )
        q = g.node("Mul", q, g.tensor(8**-0.5))
        scores = g.node("Softmax", g.node("Einsum", k, q, equation="aecd,abcd->acbe"), axis=3)
        mixed = g.node("Einsum", scores, v, equation="acbe,aecd->abcd")
        out = g.node("Einsum", mixed, g.weight(heads, 8, width, fan_in=width), equation="abcd,cde->abe")
        x = g.node("Add", x, g.node("Add", out, g.vector(width)))
        hidden = g.node("Relu", g.dense(norm(x), width, 64))
        x = g.node("Add", x, g.dense(hidden, 64, width))
    x = g.dense(g.node("ReduceMean", x, axes=[1], keepdims=0), width, 5)
    return g.finish((Feed("input_1", (None, 10, 32)),), [(x, 2)], 13)


def separable_1d() -> Built:
    """1-D convolutions as 2-D ones of height one, between ExpandDims and Squeeze; dilation as SpaceToBatch would do."""
    g = Sketch("keras_wave", style=STYLE)
    x = g.node("Unsqueeze", "input_1", g.tensor([1]))
    for into, out in ((4, 16), (16, 24)):
        w = g.weight(out, into, 1, 3)
        y = g.node("Conv", first(g, x), w, kernel_shape=[1, 3], pads=[0, 2, 0, 2], dilations=[1, 2])
        x = g.node("Relu", g.node("Add", last(g, y), g.vector(out)))
    x = g.node("ReduceMax", g.node("Squeeze", x, g.tensor([1])), axes=[1], keepdims=0)
    return g.finish((Feed("input_1", (None, 24, 4)),), [(g.dense(x, 24, 6), 2)], 13)


def dense_net() -> Built:
    """Channels-last concatenation that grows, norms as Mul and Add on the last axis, transition by average pool."""
    g = Sketch("keras_dense", style=STYLE)
    x = last(g, g.conv(first(g, "input_1"), 3, 16, strides=[2, 2]))
    for i in range(3):
        c = 16 + 8 * i
        y = g.node("Relu", g.node("Add", g.node("Mul", x, g.vector(c, 0.7, 1.3)), g.vector(c)))
        y = g.node("Relu", g.conv(first(g, y), c, 32, 1))
        x = g.node("Concat", x, last(g, g.conv(y, 32, 8)), axis=-1)
    x = g.node("AveragePool", g.conv(first(g, x), 40, 20, 1), kernel_shape=[2, 2], strides=[2, 2])
    return g.finish(picture(), [(pooled_dense(g, x, 20), 2)], 13)


def specs_of_source() -> list[Spec]:
    """All of the above."""
    return hand_specs("foreign", (
        Hand("keras_flat", "cnn", flat_cnn, True),
        Hand("keras_mobile", "cnn", mobile, True),
        Hand("keras_raw_residual", "cnn", raw_residual, True),
        Hand("keras_norm_residual", "cnn", norm_residual),
        Hand("keras_excite", "cnn", excite, True),
        Hand("keras_unet", "segmentation", unet, True),
        Hand("keras_generator", "gan", transposed),
        Hand("keras_lstm", "recurrent", recurrent, True),
        Hand("keras_attention", "transformer", attention, True),
        Hand("keras_wave", "audio", separable_1d),
        Hand("keras_densenet", "cnn", dense_net),
    ))  # fmt: skip
