"""Blocks of onnxruntime's own operators, as its graph optimizer leaves them behind."""

from math import sqrt

import numpy as np

from tests.support.blocks import block
from tests.support.blocks_map import divisor
from tests.support.drawing import Drawing, Drawn, Unfit

MS = "com.microsoft"


@block("seq", since=14)
@block("flat", since=14)
def fused_activations(d: Drawing, x: Drawn) -> Drawn:
    """A layer whose bias and activation are one operator."""
    c = d.pick(4, 6, 8)
    y, b = d.linear(x, c, bias=False), d.floats(c)
    kind = str(d.rng.choice(["BiasGelu", "FastGelu", "QuickGelu", "Gelu", "BiasAdd"]))
    if kind == "BiasAdd":
        return d.op(kind, y, b, d.linear(x, c), shape=y.shape, domain=MS)
    rest = [b] if kind in ("BiasGelu", "FastGelu") else []
    return d.op(kind, y, *rest, shape=y.shape, domain=MS)


@block("seq", since=14)
def fused_gate(d: Drawing, x: Drawn) -> Drawn:
    c = d.pick(4, 6)
    y = d.linear(x, 2 * c, bias=False)
    return d.op("BiasSplitGelu", y, d.floats(2 * c), shape=(*y.shape[:-1], c), domain=MS)


@block("seq", since=14)
def fused_products(d: Drawing, x: Drawn) -> Drawn:
    """Scores of sequences with themselves, transposed and scaled in the product, weights turned round."""
    hidden, c = d.pick(4, 6), x.size(2)
    q, k = d.linear(x, hidden), d.linear(x, hidden)
    time = x.shape[1]
    scores = d.op(
        "FusedMatMul", q, k, shape=(x.shape[0], time, time), domain=MS, transB=1, alpha=1 / sqrt(hidden)
    )
    y = d.matmul(d.softmax(scores), x)
    return d.op("FusedMatMul", y, d.floats(hidden, c), shape=(*x.shape[:2], hidden), domain=MS, transB=1)


@block("flat", since=14)
def fused_gemm(d: Drawing, x: Drawn) -> Drawn:
    c = d.pick(4, 6)
    return d.op(
        "FusedGemm",
        x,
        d.floats(c, x.size(1)),
        d.floats(c),
        shape=(x.shape[0], c),
        domain=MS,
        transB=1,
        activation="Relu",
    )


@block("seq", since=14)
def fused_residual_norm(d: Drawing, x: Drawn) -> Drawn:
    """A residual and its norm in one operator; its sum goes on beside it."""
    c = x.size(2)
    y = d.linear(d.activate(d.linear(x, d.pick(4, 8))), c)
    scale, shape = d.floats(c, offset=1.0), x.shape
    total = (*shape[:2], 1)
    if d.chance(0.5):
        out, *_, summed = d.ops(
            "SkipLayerNormalization", y, x, scale, d.floats(c), d.floats(c), shapes=[shape, total, total, shape],
            domain=MS, epsilon=1e-5,
        )  # fmt: skip
    else:
        out, *_, summed = d.ops(
            "SkipSimplifiedLayerNormalization",
            y,
            x,
            scale,
            shapes=[shape, total, total, shape],
            domain=MS,
            epsilon=1e-5,
        )
    return d.add(out, summed) if d.chance(0.5) else out


@block("seq", since=14)
def fused_mean_square_norm(d: Drawing, x: Drawn) -> Drawn:
    """Filed in the default domain, as onnxruntime's optimizer does."""
    scale = d.floats(x.size(2), offset=1.0)
    return d.op("SimplifiedLayerNormalization", x, scale, shape=x.shape, axis=-1, epsilon=1e-5)


@block("seq", since=14)
def fused_attention(d: Drawing, x: Drawn) -> Drawn:
    """With the projection in the operator."""
    heads, dim, c = d.pick(2, 3), d.pick(2, 3, 4), x.size(2)
    width = heads * dim
    w, b = d.floats(c, 3 * width, scale=1 / sqrt(c)), d.floats(3 * width)
    y = d.op("Attention", x, w, b, shape=(*x.shape[:2], width), domain=MS, num_heads=heads)
    return d.add(x, d.linear(y, c))


@block("seq", since=14)
def fused_multi_head_attention(d: Drawing, x: Drawn) -> Drawn:
    """Three projections; the bias of all three at times in the operator."""
    heads, dim, value = d.pick(2, 3), d.pick(2, 4), d.pick(2, 4)
    bias = d.floats(heads * (2 * dim + value)) if d.chance(0.5) else None
    q, k, v = (d.linear(x, heads * size, bias=bias is None) for size in (dim, dim, value))
    y = d.op(
        "MultiHeadAttention", q, k, v, bias, shape=(*x.shape[:2], heads * value), domain=MS, num_heads=heads
    )
    return d.linear(y, x.size(2))


@block("seq", since=14)
def packed_weight(d: Drawing, x: Drawn) -> Drawn:
    """A weight of four bits a number, sixteen of them to a scale."""
    inner, out = 32, d.pick(4, 6)
    y = d.linear(x, inner)
    weight = d.const(d.rng.integers(0, 256, (out, inner // 16, 8)).astype(np.uint8))
    scales = d.floats(out, inner // 16, scale=0.01, offset=0.05)
    return d.op(
        "MatMulNBits",
        y,
        weight,
        scales,
        shape=(*x.shape[:2], out),
        domain=MS,
        K=inner,
        N=out,
        bits=4,
        block_size=16,
    )


@block("map", since=14)
def fused_convolution(d: Drawing, x: Drawn) -> Drawn:
    """A convolution, the sum with its own input, and an activation."""
    c = x.size(1)
    return d.op(
        "FusedConv", x, d.floats(c, c, 3, 3), d.floats(c), x, shape=x.shape, domain=MS, activation="Relu",
        pads=[1, 1, 1, 1], kernel_shape=[3, 3],
    )  # fmt: skip


@block("map", since=14)
def convolution_with_channels_last(d: Drawing, x: Drawn) -> Drawn:
    out, c = d.pick(4, 6), x.size(1)
    last = d.transpose(x, 0, 2, 3, 1)
    y = d.op(
        "NhwcConv", last, d.floats(out, c, 3, 3), d.floats(out), shape=(*last.shape[:3], out), domain=MS,
        pads=[1, 1, 1, 1], kernel_shape=[3, 3],
    )  # fmt: skip
    return d.transpose(y, 0, 3, 1, 2)


@block("map", since=14)
def fused_group_norm(d: Drawing, x: Drawn) -> Drawn:
    """Channels last; at times of a sum, which goes on."""
    groups, c = divisor(d, x.size(1)), x.size(1)
    last = d.transpose(x, 0, 2, 3, 1)
    scale, shift = d.floats(c, offset=1.0), d.floats(c)
    attrs = {"groups": groups, "activation": d.pick(0, 1), "channels_last": 1, "epsilon": 1e-5}
    if d.chance(0.5):
        y = d.op("GroupNorm", last, scale, shift, shape=last.shape, domain=MS, **attrs)
    else:
        other = d.transpose(d.conv(x, c, 1), 0, 2, 3, 1)
        y, total = d.ops(
            "SkipGroupNorm", last, scale, shift, other, shapes=[last.shape, last.shape], domain=MS, **attrs
        )
        y = d.add(y, total)
    return d.transpose(y, 0, 3, 1, 2)


@block("seq", since=24)
def memory_of_entries(d: Drawing, x: Drawn) -> Drawn:
    """What comes in is written into a stored memory twice as long, from its start on."""
    if not isinstance(x.shape[1], int):
        raise Unfit("a memory has a fixed length")
    time, c = x.size(1), x.size(2)
    memory = d.expand(d.floats(1, 2 * time, c), x, (2 * time, c))
    return d.op("TensorScatter", memory, x, shape=memory.shape)


@block("seq", since=14)
def fused_rotary_embedding(d: Drawing, x: Drawn) -> Drawn:
    """Heads of which all dims, or the first few, are turned."""
    if not all(isinstance(size, int) for size in x.shape[:2]) or x.size(1) > 24:
        raise Unfit("a table of fixed length")
    heads, dim = d.pick(2, 3), d.pick(4, 8)
    y = d.linear(x, heads * dim)
    places = d.const(np.arange(x.size(1), dtype=np.int64)[None].repeat(x.size(0), 0))
    part = dim if dim == 4 or d.chance(0.5) else 4
    tables = [d.floats(24, part // 2) for _ in range(2)]
    attrs = {"rotary_embedding_dim": part} if part < dim else {}
    return d.op("RotaryEmbedding", y, places, *tables, shape=y.shape, domain=MS, num_heads=heads, **attrs)


@block("seq", since=14)
def fused_experts(d: Drawing, x: Drawn) -> Drawn:
    """A mixture whose router picks two of three for each token.

    It is read beside its result: onnxruntime's kernel writes over an input that nobody reads later, and errs.
    """
    c, inner = x.size(2), d.pick(4, 5)
    router = d.regroup(d.linear(x, 3), (-1, 3), ("tokens", 3))
    first, second = d.floats(3, inner, c), d.floats(3, c, inner)
    y = d.op(
        "MoE", x, router, first, d.floats(3, inner), second, d.floats(3, c), shape=x.shape, domain=MS, k=2,
        activation_type="gelu",
    )  # fmt: skip
    return d.add(x, y)


@block("flat", since=14)
def products_of_bytes(d: Drawing, x: Drawn) -> Drawn:
    """Quantized as it comes, multiplied with a weight of bytes, and brought back in the same operator."""
    out, c = d.pick(4, 6), x.size(1)
    weight, zero = (
        d.const(d.rng.integers(0, 255, (c, out)).astype(np.uint8)),
        d.const(np.full(out, 128, np.uint8)),
    )
    scale, bias = d.floats(out, scale=1e-3, offset=0.01), d.floats(out)
    if d.chance(0.5):
        return d.op("DynamicQuantizeMatMul", x, weight, scale, zero, bias, shape=(x.shape[0], out), domain=MS)
    step, middle = d.scalar(0.02), d.const(np.uint8(128))
    byte = d.op("QuantizeLinear", d.unary("Tanh", x), step, middle, shape=x.shape)
    return d.op(
        "MatMulIntegerToFloat",
        byte,
        weight,
        step,
        scale,
        middle,
        zero,
        bias,
        shape=(x.shape[0], out),
        domain=MS,
    )


@block("map", since=14)
@block("seq", since=14)
@block("flat", since=14)
def arithmetic_of_bytes(d: Drawing, x: Drawn) -> Drawn:
    """Sums, products, activations and joins of quantized tensors."""
    step, middle = d.scalar(0.02), d.const(np.uint8(128))
    a, b = (
        d.op("QuantizeLinear", y, step, middle, shape=x.shape, domain=MS) for y in (x, d.unary("Tanh", x))
    )
    kind = str(
        d.rng.choice(["QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat"])
    )
    shape = list(x.shape)
    if kind in ("QLinearAdd", "QLinearMul"):
        y = d.op(kind, a, step, middle, b, step, middle, step, middle, shape=shape, domain=MS)
    elif kind == "QLinearConcat":
        axis = 2 if len(shape) == 3 else 1
        shape[axis] = 2 * x.size(axis)
        y = d.op(kind, step, middle, a, step, middle, b, step, middle, shape=shape, domain=MS, axis=axis)
    else:
        y = d.op(kind, a, step, middle, step, middle, shape=shape, domain=MS)
    return d.op("DequantizeLinear", y, step, middle, shape=shape, domain=MS)


@block("seq", since=14)
def grouped_queries_in_one(d: Drawing, x: Drawn) -> Drawn:
    """Four query heads for two key heads of eight or sixteen dims, packed in one projection."""
    if not all(isinstance(size, int) for size in x.shape[:2]):
        raise Unfit("lengths that are known")
    dim, (n, time) = d.pick(8, 16), (x.size(0), x.size(1))
    packed = d.linear(x, 8 * dim)
    lengths, total = d.const(np.full(n, time - 1, np.int32)), d.const(np.array([time], np.int32))
    y = d.op(
        "GroupQueryAttention", packed, None, None, None, None, lengths, total, shape=(n, time, 4 * dim), domain=MS,
        num_heads=4, kv_num_heads=2,
    )  # fmt: skip
    return d.linear(y, x.size(2))
