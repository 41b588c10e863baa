"""Quantized tensors: scales and zero points follow their axis, products are masked with the zero point.

The number 0 of a quantized tensor is its zero point, so that is what the proof writes at dead positions before a
product. Operators of onnxruntime's own domain stand beside the standard ones they resemble.
"""

from collections.abc import Sequence

from graphrewrite.dims.axes import Axis
from graphrewrite.dims.rules.contrib import MICROSOFT, embed
from graphrewrite.dims.rules.conv import convolve, feature_map, kernel, space
from graphrewrite.dims.rules.elementwise import broadcast_axes
from graphrewrite.dims.rules.linear import product_of
from graphrewrite.dims.rules.shape import join
from graphrewrite.dims.sweep import Step, rule


def follows(s: Step, axis: Axis, *slots: int) -> None:
    """Tie an axis with scales, zero points or biases that have one number for each of its positions."""
    for slot in slots:
        if s.has(slot):
            vector = s.axes(slot)
            if vector and vector[-1].sizes != (1, 1):
                s.tie(axis, vector[-1])


def is_single(s: Step, *slots: int) -> bool:
    """Whether scales and zero points are one number for the whole tensor (or absent)."""
    return all(pair == (1, 1) for slot in slots if s.has(slot) for pair in s.sizes(slot))


@rule("QuantizeLinear", "DequantizeLinear")
@rule("QuantizeLinear", "DequantizeLinear", domain=MICROSOFT)
def quantize_linear(s: Step) -> None:
    """Scales per channel follow their axis; scales per block let whole blocks go."""
    x = s.axes(0)
    s.out(x)
    axis = s.integer("axis", 1)
    for slot in (1, 2):
        scale = s.axes(slot) if s.has(slot) else []
        if not s.integer("block_size", 0):
            if scale and scale[0].sizes != (1, 1):
                s.tie(x[axis % len(x)], scale[0])
            continue
        for number, (mine, its) in enumerate(zip(x, scale, strict=False)):
            if number == axis % len(x):
                in_blocks(s, mine, its)
            else:
                s.tie(mine, its)


def in_blocks(s: Step, axis: Axis, blocks: Axis) -> None:
    """Let an axis lose whole blocks of neighbouring positions: those that share a number along `blocks`."""
    count = blocks.sizes[0]
    if not axis.is_static or axis.sizes[0] % count:
        s.pin(axis, "its last block is not full")
        s.pin(blocks, "the last block is not full")
        return
    outer, inner = s.digits(axis, [count, axis.sizes[0] // count])
    s.pin(inner, "positions of one block share a scale")
    s.tie(outer, blocks)


@rule("DynamicQuantizeLinear")
def dynamic_quantize_linear(s: Step) -> None:
    """Scale and zero point come from the smallest and largest number of the whole tensor.

    The range always includes zero, so a position that holds zero takes no part in it.
    """
    x = s.forced(s.axes(0))
    s.mix("zero", 0, dict(enumerate(x)))
    s.out(x)
    for output in (1, 2):
        s.out([], output)


@rule("ConvInteger")
def conv_integer(s: Step) -> None:
    """A convolution of integers; the weight's zero point may follow the output channels."""
    x, w = feature_map(s), kernel(s, 1)
    convolve(s, 1, x, w, "quantized")
    follows(s, w[0], 3)
    s.out([x[0], w[0], *space(s)])


@rule("QLinearConv")
@rule("QLinearConv", domain=MICROSOFT)
def qlinear_conv(s: Step) -> None:
    """A quantized convolution: weight scale, zero point and bias may follow the output channels."""
    last = bool(s.integer("channels_last", 0))
    x, w = feature_map(s, channels_last=last), kernel(s, 3)
    convolve(s, 3, x, w, "quantized", len(x) - 1 if last else 1)
    follows(s, w[0], 4, 5, 8)
    middle = space(s, channels_last=last)
    s.out([x[0], *middle, w[0]] if last else [x[0], w[0], *middle])


@rule("MatMulInteger")
def matmul_integer(s: Step) -> None:
    """A product of integers; the zero point of B may follow its columns."""
    _product(s, 1, (2,), (3,))


@rule("QLinearMatMul")
def qlinear_matmul(s: Step) -> None:
    """A quantized product; scale and zero point of B may follow its columns."""
    _product(s, 3, (1, 2), (4, 5))


@rule("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(s: Step) -> None:
    """A product of integers, scaled: what belongs to B may follow its columns."""
    _product(s, 1, (2, 4), (3, 5, 6))


@rule("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(s: Step) -> None:
    """Quantizes A by its own range, which includes zero, then multiplies."""
    a = s.forced(s.axes(0))
    _product(s, 1, (), (2, 3, 4), "zero")
    s.mix("zero", 0, dict(enumerate(a)))


def _product(
    s: Step, slot: int, of_all: Sequence[int], of_columns: Sequence[int], kind: str = "quantized"
) -> None:
    a, b = s.forced(s.axes(0)), s.forced(s.axes(slot))
    if not is_single(s, *of_all):
        s.refuse("a quantized product with a scale per row is not followed")
        return
    product_of(s, a, b, slot, kind)
    if len(b) > 1:
        follows(s, b[-1], *of_columns)


@rule("QGemm", domain=MICROSOFT)
def qgemm(s: Step) -> None:
    """A quantized Gemm with scale, zero point and bias per column."""
    a, b = s.forced(s.axes(0)), s.forced(s.axes(3))
    from_a, from_b = s.integer("transA", 0), s.integer("transB", 0)
    a, b = a[::-1] if from_a else a, b[::-1] if from_b else b
    product_of(s, a, b, 3, "quantized", (0 if from_a else 1, 1 if from_b else 0))
    follows(s, b[-1], 4, 5, 6)


@rule("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def qlinear_binary(s: Step) -> None:
    """Two broadcast operands, each with its scale and zero point."""
    s.out(broadcast_axes(s, [s.axes(0), s.axes(3)]))


@rule("QLinearWhere", domain=MICROSOFT)
def qlinear_where(s: Step) -> None:
    """A condition and two broadcast operands, each with its scale and zero point."""
    s.out(broadcast_axes(s, [s.axes(0), s.axes(1), s.axes(4)]))


@rule("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(s: Step) -> None:
    """Operands come as (tensor, scale, zero point) after scale and zero point of the result."""
    s.out(join(s, [s.axes(slot) for slot in range(2, len(s.node.inputs), 3)]))


@rule("QLinearLeakyRelu", "QLinearSigmoid", domain=MICROSOFT)
def qlinear_unary(s: Step) -> None:
    """Positions stay where they are."""
    s.out(s.axes(0))


@rule("QLinearSoftmax", domain=MICROSOFT)
def qlinear_softmax(s: Step) -> None:
    """The axis stays whole: no quantized number has the exponential zero, so none can stand for a missing position."""
    x = s.forced(s.axes(0))
    axis = s.integer("axis", -1) % len(x)
    for each in x[axis:] if s.integer("opset", 13) < 13 else [x[axis]]:
        s.pin(each, "a quantized softmax runs over this axis")
    s.out(x)


@rule("QLinearAveragePool", "QLinearGlobalAveragePool", domain=MICROSOFT)
def qlinear_pool(s: Step) -> None:
    """Batch and channels pass, whichever place the channels have."""
    last = bool(s.integer("channels_last", 0))
    x = feature_map(s, channels_last=last)
    middle = space(s, channels_last=last)
    s.out([x[0], *middle, x[1]] if last else [x[0], x[1], *middle])


@rule("QEmbedLayerNormalization", domain=MICROSOFT)
def quantized_embed_norm(s: Step) -> None:
    """Quantized rows of two or three tables summed and normalised; their width is one axis."""
    embed(s)
