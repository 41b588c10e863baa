"""Nets whose sums are fused with what comes after them, and sums of streams that come from elsewhere."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Builder, Model
from tests.passes.blocks.drawn import C, T, mlp, norm
from tests.passes.channels.nets import floats

MS = "com.microsoft"


def skip_norm(
    b: Builder, x: gs.Tensor, branch: gs.Tensor, name: str, simple: bool, bias: bool, both: bool
) -> tuple[gs.Variable, gs.Variable]:
    """A sum with its norm; returns the norm and, with `both`, the sum itself."""
    operands = [x, branch, b.constant(floats(1 + 0.1 * b.rng.standard_normal(C)), f"{name}.gain")]
    operands += [] if simple else [b.constant(floats(0.1 * b.rng.standard_normal(C)), f"{name}.offset")]
    operands += [b.constant(floats(b.rng.standard_normal(C)), f"{name}.bias")] if bias else []
    made = [gs.Variable(f"{name}_out", np.float32)]
    if both:
        made += [gs.Variable.empty(), gs.Variable.empty(), gs.Variable(f"{name}_sum", np.float32)]
    op = "SkipSimplifiedLayerNormalization" if simple else "SkipLayerNormalization"
    b.graph.nodes.append(gs.Node(op, name, {"epsilon": 1e-5}, operands, made, domain=MS))
    return made[0], made[-1]


def fused(
    simple: bool = False, pre: bool = True, bias: bool = False, opset: int = 17, seed: int = 0
) -> Model:
    """Three blocks of an optimised transformer; with `pre` the sums go on, otherwise their norms do."""
    b = Builder(opset=opset, seed=seed)
    stream: gs.Tensor = b.op("MatMul", b.input(["N", T, 4], "x"), b.weight(4, C, name="embed"))
    read = norm(b, stream) if pre else stream
    for n in range(3):
        given = stream if pre else read
        read, total = skip_norm(b, given, mlp(b, read, f"mlp{n}"), f"skip{n}", simple, bias, pre)
        stream = total
    model = b.model(b.op("MatMul", read, b.weight(C, 3, name="head")))
    model.opsets[MS] = 1
    return model


def quantized(seed: int = 0) -> Model:
    """A residual block between quantized tensors: convolutions in 8 bits, the sum too, zero points off zero."""
    b = Builder(opset=17, seed=seed)
    scale, zero = b.constant(floats(0.05), "scale"), b.constant(np.array(128, np.uint8), "zero")
    small, none = b.constant(floats(0.02), "small"), b.constant(np.array(0, np.int8), "none")

    def conv(x: gs.Tensor, out: int, into: int, name: str) -> gs.Variable:
        weight = b.constant(b.rng.integers(-60, 60, (out, into, 3, 3)).astype(np.int8), f"{name}.weight")
        operands = [x, scale, zero, weight, small, none, scale, zero]
        return b.op("QLinearConv", *operands, name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    x: gs.Tensor = b.op("QuantizeLinear", b.input(["N", 3, 6, 6], "x"), scale, zero)
    x = conv(x, 6, 3, "stem")
    for n in range(2):
        branch = conv(conv(x, 6, 6, f"one{n}"), 6, 6, f"two{n}")
        total = gs.Variable(f"sum{n}_out", np.uint8)
        operands = [branch, scale, zero, x, scale, zero, scale, zero]
        b.graph.nodes.append(gs.Node("QLinearAdd", f"sum{n}", {}, operands, [total], domain=MS))
        x = total
    x = b.op("DequantizeLinear", x, scale, zero)
    model = b.model(b.conv(x, 2, 6, name="head"))
    model.opsets[MS] = 1
    return model


def fuse(seed: int = 0) -> Model:
    """Two resolutions with a layer each, mixed both ways, as in high-resolution nets."""
    b = Builder(seed=seed)
    x = b.relu(b.conv(b.input(["N", 3, 8, 8], "x"), 4, 3, name="stem"))
    fine = b.relu(b.conv(x, 4, 4, name="fine"))
    coarse = b.relu(b.conv(x, 6, 4, stride=2, name="coarse"))
    scales = b.constant(floats([1, 1, 2, 2]))
    up = b.op("Resize", b.batchnorm(b.conv(coarse, 4, 6, kernel=1), 4), None, scales, mode="nearest")
    down = b.batchnorm(b.conv(fine, 6, 4, stride=2), 6)
    heads = [
        b.conv(b.relu(b.op("Add", fine, up, name="up")), 2, 4, name="head0"),
        b.conv(b.relu(b.op("Add", coarse, down, name="down")), 2, 6, name="head1"),
    ]
    return b.model(*heads)


def pyramid(seed: int = 0) -> Model:
    """A feature pyramid of three levels: laterals, and what comes down from the level above."""
    b = Builder(seed=seed)
    x: gs.Tensor = b.relu(b.conv(b.input(["N", 3, 8, 8], "x"), 4, 3, name="stem"))
    levels = [x]
    for n in range(2):
        levels.append(b.relu(b.conv(levels[-1], 4, 4, stride=2, name=f"down{n}")))
    scales = b.constant(floats([1, 1, 2, 2]))
    top: gs.Tensor = b.conv(levels[-1], 5, 4, kernel=1, name="lateral2")
    outputs = [b.conv(top, 2, 5, name="head2")]
    for n in (1, 0):
        above = b.op("Resize", top, None, scales, mode="nearest")
        top = b.op("Add", b.conv(levels[n], 5, 4, kernel=1, name=f"lateral{n}"), above, name=f"level{n}")
        outputs.append(b.conv(top, 2, 5, name=f"head{n}"))
    return b.model(*outputs)


FUSED: dict[str, Callable[[], Model]] = {
    "pre": fused,
    "post": lambda: fused(pre=False, bias=True),
    "simple": lambda: fused(simple=True, bias=True),
    "simple_18": lambda: fused(simple=True, pre=False, opset=18),
    "simple_23": lambda: fused(simple=True, opset=23),
    "quantized": quantized,
    "fuse": fuse,
    "pyramid": pyramid,
}
