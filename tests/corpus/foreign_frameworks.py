"""Graphs drawn after the habits of PaddlePaddle, MXNet, Caffe2, Darknet and early PyTorch converters."""

from tests.corpus.index import Feed
from tests.corpus.sketch import Hand, Sketch, hand_specs
from tests.corpus.spec import Built, Spec


def picture(size: int = 32, channels: int = 3, name: str = "x") -> tuple[Feed, ...]:
    """A channels-first picture."""
    return (Feed(name, (None, channels, size, size)),)


def paddle_residual() -> Built:
    """Weights in Constant nodes, norms as nodes, an elementwise add and a separate ReLU, Identity at the end."""
    g = Sketch("paddle_residual", home="node", style="{op}_{n}.tmp_0")
    x = g.node("Relu", g.norm(g.conv("x", 3, 16, bias=False, strides=[2, 2]), 16))
    for into, out, stride in ((16, 16, 1), (16, 32, 2), (32, 32, 1)):
        y = g.node("Relu", g.norm(g.conv(x, into, out, bias=False, strides=[stride] * 2), out))
        y = g.norm(g.conv(y, out, out, bias=False), out)
        if into != out:
            pooled = g.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
            x = g.norm(g.conv(pooled, into, out, 1, bias=False), out)
        x = g.node("Relu", g.node("Add", x, y))
    flat = g.node("Flatten", g.node("GlobalAveragePool", x), axis=1)
    return g.finish(
        picture(), [(g.node("Identity", g.node("Softmax", g.dense(flat, 32, 10), axis=1)), 2)], 11
    )


def paddle_mobile() -> Built:
    """Hard swish by HardSigmoid and by Clip arithmetic, squeeze-excite, flatten by Shape, Slice, Concat, Reshape."""
    g = Sketch("paddle_mobile", home="node", style="{op}_{n}.tmp_1")

    def swish(x: str) -> str:
        clipped = g.node("Clip", g.node("Add", x, g.tensor(3.0)), g.tensor(0.0), g.tensor(6.0))
        return g.node("Div", g.node("Mul", x, clipped), g.tensor(6.0))

    x = swish(g.norm(g.conv("x", 3, 16, bias=False, strides=[2, 2]), 16))
    for _ in range(2):
        y = swish(g.norm(g.conv(x, 16, 48, 1, bias=False), 48))
        y = swish(g.norm(g.conv(y, 48, 48, 5, bias=False, group=48), 48))
        s = g.node("Relu", g.conv(g.node("GlobalAveragePool", y), 48, 12, 1))
        y = g.node("Mul", y, g.node("HardSigmoid", g.conv(s, 12, 48, 1), alpha=1 / 6, beta=0.5))
        x = g.node("Add", x, g.norm(g.conv(y, 48, 16, 1, bias=False), 16))
    x = g.node("GlobalAveragePool", x)
    batch = g.node("Slice", g.node("Shape", x), g.tensor([0]), g.tensor([1]), g.tensor([0]))
    flat = g.node("Reshape", x, g.node("Concat", batch, g.tensor([-1]), axis=0))
    return g.finish(picture(), [(g.dense(flat, 16, 10), 2)], 11)


def paddle_reader() -> Built:
    """Text recognition: convolutions, height squeezed, two LSTMs in both directions, a dense layer per step."""
    g = Sketch("paddle_reader", home="node", style="{op}_{n}.tmp_0")
    x = g.node("Relu", g.norm(g.conv("x", 3, 16, bias=False, strides=[2, 2]), 16))
    x = g.node("Relu", g.norm(g.conv(x, 16, 24, bias=False, strides=[2, 1]), 24))
    x = g.node("MaxPool", x, kernel_shape=[8, 1], strides=[8, 1])
    x = g.node("Transpose", g.node("Squeeze", x, axes=[2]), perm=[2, 0, 1])
    for into in (24, 32):
        w, r = g.weight(2, 64, into, fan_in=into), g.weight(2, 64, 16, fan_in=16)
        b = g.tensor(g.rng.uniform(-0.2, 0.2, (2, 128)))
        x = g.node("LSTM", x, w, r, b, hidden_size=16, direction="bidirectional")
        x = g.node("Reshape", g.node("Transpose", x, perm=[0, 2, 1, 3]), g.tensor([0, 0, -1]))
    x = g.dense(g.node("Transpose", x, perm=[1, 0, 2]), 32, 14)
    return g.finish(picture(), [(g.node("Softmax", x, axis=2), 3)], 11)


def paddle_segmenter() -> Built:
    """Two branches of different resolution, resized to sizes read from Shape at run time, joined by Concat."""
    g = Sketch("paddle_segmenter", style="bilinear_{op}_{n}")

    def resize(x: str, like: str) -> str:
        size = g.node("Slice", g.node("Shape", like), g.tensor([2]), g.tensor([4]), g.tensor([0]))
        lead = g.node("Slice", g.node("Shape", x), g.tensor([0]), g.tensor([2]), g.tensor([0]))
        target = g.node("Concat", lead, size, axis=0)
        return g.node("Resize", x, "", "", target, mode="linear", coordinate_transformation_mode="half_pixel")

    near = g.node("Relu", g.norm(g.conv("x", 3, 16, strides=[2, 2]), 16))
    far = g.node("Relu", g.norm(g.conv(near, 16, 32, strides=[2, 2]), 32))
    far = g.node("Relu", g.conv(far, 32, 32, dilations=[2, 2], pads=[2, 2, 2, 2]))
    x = g.node("Concat", near, resize(far, near), axis=1)
    x = resize(g.conv(g.node("Relu", g.conv(x, 48, 24)), 24, 4, 1), "x")
    return g.finish(picture(), [(x, 4)], 13)


def mxnet_residual() -> Built:
    """Weights also listed as graph inputs, a norm on the input, fixed gains of one, Flatten and Gemm, dropout kept."""
    g = Sketch("mxnet_residual", home="input", style="stage_{op}{n}")
    x = g.conv(g.norm("data", 3), 3, 24, bias=False)
    for into, out in ((24, 24), (24, 40)):
        y = g.node("Relu", g.norm(x, into))
        z = g.conv(g.node("Relu", g.norm(g.conv(y, into, out, bias=False), out)), out, out, bias=False)
        x = g.node("Add", z, x if into == out else g.conv(y, into, out, 1, bias=False))
    x = g.node("GlobalAveragePool", g.node("Relu", g.norm(x, 40)))
    x = g.node("Dropout", g.node("Flatten", x), ratio=0.3)
    x = g.node("Gemm", x, g.weight(10, 40), g.vector(10), alpha=1.0, beta=1.0, transA=0, transB=1)
    return g.finish(picture(name="data"), [(x, 2)], 9, ir=3)


def mxnet_vgg() -> Built:
    """Operator set 8: convolutions with biases, flatten of a 4x4 map, two Gemms with dropout between."""
    g = Sketch("mxnet_vgg", home="input", style="vgg0_{op}{n}_fwd")
    x = "data"
    for into, out in ((3, 16), (16, 24), (24, 32)):
        x = g.node("Relu", g.conv(x, into, out))
        x = g.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0])
    x = g.node("Flatten", x)
    x = g.node("Relu", g.node("Gemm", x, g.weight(48, 512), g.vector(48), transB=1))
    x = g.node("Gemm", g.node("Dropout", x), g.weight(10, 48), g.vector(10), transB=1)
    return g.finish(picture(name="data"), [(g.node("Softmax", x, axis=1), 2)], 8, ir=3)


def caffe_net() -> Built:
    """Operator set 7: grouped convolution, local response norm, pooling with uneven pads, Reshape and Gemm."""
    g = Sketch("caffe", home="input", style="gpu_0/{op}_{n}")
    x = g.node("Relu", g.conv("data", 3, 24, 5, strides=[2, 2]))
    x = g.node("LRN", x, size=5, alpha=1e-4, beta=0.75, bias=1.0)
    x = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
    x = g.node("Relu", g.conv(x, 24, 32, group=2))
    x = g.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.node("Reshape", x, g.tensor([-1, 512]))
    x = g.node("Gemm", x, g.weight(512, 32, fan_in=512), g.vector(32))
    x = g.node("Gemm", g.node("Relu", x), g.weight(10, 32), g.vector(10), transB=1)
    return g.finish(picture(name="data"), [(x, 2)], 7, ir=3)


def fire_net() -> Built:
    """SqueezeNet as shipped in 2018: concats of two convolutions, a convolution as classifier, operator set 7."""
    g = Sketch("fire", home="input", style="fire{n}/{op}")
    x = g.node("Relu", g.conv("data", 3, 16, strides=[2, 2]))
    for into in (16, 32):
        s = g.node("Relu", g.conv(x, into, 8, 1))
        x = g.node("Concat", g.node("Relu", g.conv(s, 8, 16, 1)), g.node("Relu", g.conv(s, 8, 16)), axis=1)
    x = g.node("GlobalAveragePool", g.node("Relu", g.conv(g.node("Dropout", x, ratio=0.5), 32, 10, 1)))
    return g.finish(picture(name="data"), [(g.node("Softmax", g.node("Flatten", x)), 2)], 7, ir=3)


def darknet() -> Built:
    """A one-stage detector: LeakyReLU, norms kept, Upsample of operator set 9, route layers as Concat, two outputs."""
    g = Sketch("darknet", style="{n}_{op}")

    def layer(x: str, into: int, out: int, kernel: int = 3, stride: int = 1) -> str:
        y = g.norm(g.conv(x, into, out, kernel, bias=False, strides=[stride] * 2), out)
        return g.node("LeakyRelu", y, alpha=0.1)

    x = layer(layer("x", 3, 16), 16, 32, stride=2)
    x = g.node("Add", x, layer(layer(x, 32, 16, 1), 16, 32))
    near = layer(x, 32, 48, stride=2)
    near = g.node("Add", near, layer(layer(near, 48, 24, 1), 24, 48))
    far = layer(layer(near, 48, 64, stride=2), 64, 32, 1)
    up = g.node("Upsample", layer(far, 32, 16, 1), g.tensor([1.0, 1.0, 2.0, 2.0]), mode="nearest")
    joined = layer(g.node("Concat", up, near, axis=1), 64, 32)
    return g.finish(
        picture(), [(g.conv(layer(far, 32, 64), 64, 18, 1), 4), (g.conv(joined, 32, 18, 1), 4)], 9, ir=4
    )


def early_torch() -> Built:
    """What exporters of 2018 wrote: Gather on shapes, Unsqueeze and Concat for a view, integer names, Gemm."""
    g = Sketch("early_torch", home="input", style="{n}")
    x = g.node("Relu", g.norm(g.conv("input.1", 3, 16, strides=[2, 2]), 16))
    x = g.node("MaxPool", x, kernel_shape=[4, 4], strides=[4, 4])
    batch = g.node("Unsqueeze", g.node("Gather", g.node("Shape", x), g.tensor(0), axis=0), axes=[0])
    shape = g.node("Concat", batch, g.tensor([-1]), axis=0)
    x = g.node("Reshape", x, shape)
    x = g.node("Gemm", x, g.weight(10, 256), g.vector(10), alpha=1.0, beta=1.0, transB=1)
    return g.finish(picture(name="input.1"), [(x, 2)], 9, ir=4)


def generated_weights() -> Built:
    """All homes of a weight at once: initializers, Constant nodes, ConstantOfShape, arithmetic on constants."""
    g = Sketch("homes")
    x = g.node("Relu", g.conv("x", 3, 16))
    g.home = "node"
    x = g.node("Relu", g.norm(g.conv(x, 16, 24, strides=[2, 2]), 24))
    zeros = g.node("ConstantOfShape", g.tensor([24]))
    weight = g.node("Mul", g.weight(24, 24, 3, 3), g.node("Sub", g.tensor(2.0), g.tensor(0.9)))
    x = g.node("Relu", g.node("Conv", x, weight, zeros, pads=[1, 1, 1, 1], kernel_shape=[3, 3]))
    turned = g.node("Transpose", g.weight(10, 24), perm=[1, 0])
    g.home = "initializer"
    flat = g.node("Flatten", g.node("GlobalAveragePool", x))
    x = g.node("Add", g.node("MatMul", flat, turned), g.node("Expand", g.vector(1), g.tensor([10])))
    return g.finish(picture(), [(x, 2)], 13)


def double_precision() -> Built:
    """A net of 64-bit floats, as statistics packages export them."""
    g = Sketch("double")
    x = "x"
    for into, out in ((12, 24), (24, 16), (16, 3)):
        weight = g.tensor(g.rng.standard_normal((into, out)) / into**0.5, "float64")
        x = g.node("Add", g.node("MatMul", x, weight), g.tensor(g.rng.uniform(-0.3, 0.3, out), "float64"))
        x = g.node("Tanh", x) if out > 3 else x
    return g.finish((Feed("x", (None, 12), "float64"),), [(x, 2)], 13)


def specs_of_source() -> list[Spec]:
    """All of the above."""
    return hand_specs("foreign", (
        Hand("paddle_residual", "cnn", paddle_residual, True),
        Hand("paddle_mobile", "cnn", paddle_mobile, True),
        Hand("paddle_reader", "recurrent", paddle_reader),
        Hand("paddle_segmenter", "segmentation", paddle_segmenter),
        Hand("mxnet_residual", "cnn", mxnet_residual, True),
        Hand("mxnet_vgg", "cnn", mxnet_vgg),
        Hand("caffe_net", "cnn", caffe_net, True),
        Hand("fire_net", "cnn", fire_net),
        Hand("darknet", "detection", darknet, True),
        Hand("early_torch", "cnn", early_torch),
        Hand("generated_weights", "cnn", generated_weights, True),
        Hand("double_precision", "mlp", double_precision),
    ))  # fmt: skip
