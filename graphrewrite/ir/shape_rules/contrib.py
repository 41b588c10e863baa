"""Operators of onnxruntime's own domain whose shapes follow simply from the inputs."""

import numpy as np

from graphrewrite.ir.shape_rules.call import FLOAT32, INT32, Call, DType, Shape, Unknown, shape_rule
from graphrewrite.ir.shape_rules.convolution import window
from graphrewrite.ir.shape_rules.elementwise import broadcast_shapes
from graphrewrite.ir.shape_rules.layout import concat_shapes
from graphrewrite.ir.shape_rules.linear import matmul_shape
from graphrewrite.ir.symbols import Dim, floor_div

_MS = "com.microsoft"
_BLOCKED = "com.microsoft.nchwc"


# fmt: off
@shape_rule(
    "BiasAdd", "BiasDropout", "BiasGelu", "BiasSoftmax", "FastGelu", "Gelu", "GroupNorm", "NhwcInstanceNormalization",
    "Inverse", "MoE", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax", "QMoE", "QuickGelu", "RotaryEmbedding",
    "SimplifiedLayerNormalization", "SkipGroupNorm", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    domain=_MS,
)
# fmt: on
def same_shape(call: Call) -> None:
    """Pass the shape of input 0 (the sum of a skip norm included)."""
    call.put(0, call.shape(0))
    if call.node.op.startswith("Skip"):
        call.put(1 if call.node.op == "SkipGroupNorm" else 3, call.shape(0))


@shape_rule("BiasSplitGelu", domain=_MS)
def split_gelu(call: Call) -> None:
    """Half of the last axis."""
    x = call.known(0)
    call.put(0, (*x[:-1], floor_div(x[-1], 2)))


@shape_rule("SimplifiedLayerNormalization")
def simplified_layer_norm(call: Call) -> None:
    """Pass the shape: onnxruntime files this one under the default domain."""
    call.put(0, call.shape(0))


@shape_rule("QuantizeLinear", domain=_MS)
def quantize(call: Call) -> None:
    """Pass the shape; the type is that of the zero point."""
    call.put(0, call.shape(0), (call.dtype(2) if call.has(2) else None) or np.dtype(np.uint8))


@shape_rule("DequantizeLinear", domain=_MS)
def dequantize(call: Call) -> None:
    """Pass the shape; the type is that of the scale."""
    call.put(0, call.shape(0), call.dtype(1))


@shape_rule("FusedMatMul", "TransposeMatMul", domain=_MS)
def fused_matmul(call: Call) -> None:
    """A matrix product whose operands may be transposed."""
    a, b = call.known(0), call.known(1)
    if call.integer("transBatchA", 0) and len(a) > 2:
        a = (*a[1:-1], a[0], a[-1])
    if call.integer("transBatchB", 0) and len(b) > 2:
        b = (*b[1:-1], b[0], b[-1])
    if call.integer("transA", 0) and len(a) > 1:
        a = (*a[:-2], a[-1], a[-2])
    if call.integer("transB", 0) and len(b) > 1:
        b = (*b[:-2], b[-1], b[-2])
    call.put(0, matmul_shape(a, b))


@shape_rule("FusedGemm", domain=_MS)
def fused_gemm(call: Call) -> None:
    """A Gemm with an activation behind it."""
    a, b = call.known(0), call.known(1)
    call.put(0, (a[1 if call.integer("transA", 0) else 0], b[0 if call.integer("transB", 0) else 1]))


@shape_rule("QGemm", domain=_MS)
def quantized_gemm(call: Call) -> None:
    """A Gemm whose operands come with scales and zero points; float unless the output has a zero point."""
    quantized = call.has(8)
    call.put(0, None, call.dtype(8) if quantized else FLOAT32)
    a, b = call.known(0), call.known(3)
    call.put(0, (a[1 if call.integer("transA", 0) else 0], b[0 if call.integer("transB", 0) else 1]))


@shape_rule("DynamicQuantizeMatMul", "MatMulIntegerToFloat", domain=_MS, dtype=FLOAT32)
def float_matmul(call: Call) -> None:
    """A matrix product with quantised operands and float result."""
    call.put(0, matmul_shape(call.known(0), call.known(1)))


@shape_rule("MatMulInteger16", domain=_MS, dtype=INT32)
def integer_matmul(call: Call) -> None:
    """A matrix product of 16-bit integers."""
    call.put(0, matmul_shape(call.known(0), call.known(1)))


@shape_rule("MatMulNBits", "MatMulBnb4", domain=_MS)
def packed_matmul(call: Call) -> None:
    """The weight is packed; its width is an attribute."""
    call.put(0, (*call.known(0)[:-1], call.integer("N", 0)))


@shape_rule("QLinearAdd", "QLinearMul", domain=_MS)
def quantized_arithmetic(call: Call) -> None:
    """Broadcast; scales and zero points stand between the operands."""
    call.put(0, broadcast_shapes([call.known(0), call.known(3)]))


@shape_rule("QLinearConcat", domain=_MS)
def quantized_concat(call: Call) -> None:
    """Inputs come as (tensor, scale, zero point) after the output's scale and zero point."""
    shapes = [call.known(index) for index in range(2, len(call.names), 3)]
    call.put(0, concat_shapes(shapes, call.integer("axis", 1)), call.dtype(1))


@shape_rule("QLinearGlobalAveragePool", domain=_MS)
def quantized_global_pool(call: Call) -> None:
    """Space becomes 1, wherever the channels are."""
    x = call.known(0)
    ones = (1,) * (len(x) - 2)
    call.put(0, (x[0], *ones, x[-1]) if call.integer("channels_last", 0) else (x[0], x[1], *ones))


@shape_rule("QLinearAveragePool", domain=_MS)
def quantized_pool(call: Call) -> None:
    """A window slides over space, wherever the channels are."""
    last = bool(call.integer("channels_last", 0))
    _slide(call, last, call.integers("kernel_shape"), ceil=bool(call.integer("ceil_mode", 0)))


@shape_rule("NhwcMaxPool", domain=_MS)
def channels_last_pool(call: Call) -> None:
    """[batch, space, channels]."""
    _slide(call, True, call.integers("kernel_shape"), ceil=bool(call.integer("ceil_mode", 0)))


@shape_rule("FusedConv", domain=_MS)
def fused_conv(call: Call) -> None:
    """A Conv with an activation behind it."""
    w = call.known(1)
    _slide(call, False, call.integers("kernel_shape") or w[2:], w[0])


@shape_rule("NhwcConv", "NhwcFusedConv", domain=_MS)
def channels_last_conv(call: Call) -> None:
    """[batch, space, channels]; the weight is [out, in/group, kernel]."""
    w = call.known(1)
    _slide(call, True, call.integers("kernel_shape") or w[2:], w[0])


@shape_rule("QLinearConv", domain=_MS)
def quantized_conv(call: Call) -> None:
    """A quantized Conv that may have its channels last; the type is that of the output's zero point."""
    w = call.known(3)
    last = bool(call.integer("channels_last", 0))
    _slide(call, last, call.integers("kernel_shape") or w[2:], w[0], call.dtype(7))


def _slide(
    call: Call,
    last: bool,
    kernel: Shape | list[int] | None,
    channels: Dim | None = None,
    dtype: DType | None = None,
    ceil: bool = False,
) -> None:
    """Put a feature map whose space a window slid over; `channels` where they are not the input's."""
    x = call.known(0)
    if kernel is None:
        raise Unknown
    before = x[-1] if last else x[1]
    middle = window(call, x[1:-1] if last else x[2:], kernel, ceil=ceil)
    depth = before if channels is None else channels
    call.put(0, (x[0], *middle, depth) if last else (x[0], depth, *middle), dtype)


@shape_rule("Conv", domain=_BLOCKED)
def blocked_conv(call: Call) -> None:
    """A Conv of channels in blocks: the weight is padded to whole blocks, and so is the result."""
    w = call.known(1)
    _slide(call, False, call.integers("kernel_shape") or w[2:], w[0])


@shape_rule("MaxPool", "AveragePool", domain=_BLOCKED)
def blocked_pool(call: Call) -> None:
    """A window slides over space."""
    _slide(call, False, call.integers("kernel_shape"), ceil=bool(call.integer("ceil_mode", 0)))


@shape_rule("GlobalAveragePool", "GlobalMaxPool", domain=_BLOCKED)
def blocked_global_pool(call: Call) -> None:
    """Space becomes 1."""
    x = call.known(0)
    call.put(0, (x[0], x[1], *(1,) * (len(x) - 2)))


@shape_rule("ReorderInput", domain=_BLOCKED)
def into_blocks(call: Call) -> None:
    """Channels are padded to whole blocks, of a size that depends on the machine: at most 16."""
    x = call.known(0)
    last = bool(call.integer("channels_last", 0))
    channels, middle = (x[-1], x[1:-1]) if last else (x[1], x[2:])
    whole = isinstance(channels, int) and channels % 16 == 0
    call.put(0, (x[0], channels if whole else call.unknown(), *middle))


@shape_rule("ReorderOutput", domain=_BLOCKED)
def out_of_blocks(call: Call) -> None:
    """The padding of the channels goes; they may come out last."""
    x, channels = call.known(0), call.integer("channels", 0)
    last = bool(call.integer("channels_last", 0))
    call.put(0, (x[0], *x[2:], channels) if last else (x[0], channels, *x[2:]))


@shape_rule("QLinearWhere", domain=_MS)
def quantized_where(call: Call) -> None:
    """Broadcast; scales and zero points stand between the operands."""
    call.put(0, broadcast_shapes([call.known(0), call.known(1), call.known(4)]), call.dtype(1))


@shape_rule("MultiHeadAttention", "DecoderMaskedMultiHeadAttention", domain=_MS)
def multi_head_attention(call: Call) -> None:
    """[batch, time, heads * value size]; caches are [batch, heads, total time, size]."""
    q, heads = call.known(0), call.integer("num_heads", 1)
    if len(q) == 5:  # [batch, time, heads, 3, size]
        key, value, width = q[4], q[4], q[4] * heads
    else:
        k, v = call.known(1), call.shape(2)
        if len(k) == 5:
            value, width = k[4], k[4] * heads
        elif v is None:
            raise Unknown
        else:
            value, width = (v[3], v[3] * heads) if len(v) == 4 else (floor_div(v[2], heads), v[2])
        key = floor_div(q[2], heads)
    call.put(0, (q[0], q[1], width))
    for index, size in ((1, key), (2, value)):
        call.put(index, (q[0], heads, call.unknown(), size), call.dtype(0))


@shape_rule("Attention", domain=_MS)
def packed_attention(call: Call) -> None:
    """[batch, time, width]: the projection is part of the node, its weight holds query, key and value."""
    _projected(call, 4)


@shape_rule("QAttention", domain=_MS)
def quantized_attention(call: Call) -> None:
    """As Attention; the result has the type of the scales."""
    _projected(call, 8, call.dtype(3) or FLOAT32)


def _projected(call: Call, past: int, dtype: DType | None = None) -> None:
    x, w = call.known(0), call.known(1)
    sizes = call.integers("qkv_hidden_sizes")
    width: Dim = sizes[2] if sizes else floor_div(w[1], 3)
    call.put(0, (x[0], x[1], width), dtype)
    heads = call.integer("num_heads", 1)
    cache = call.shape(past) if call.has(past) else None
    total = x[1] if not call.has(past) else call.unknown() if cache is None else cache[3] + x[1]
    call.put(1, (2, x[0], heads, total, floor_div(width, heads)), dtype)


@shape_rule("GroupQueryAttention", domain=_MS)
def group_query_attention(call: Call) -> None:
    """[batch, time, heads * size], whether queries come packed with keys and values or not; caches are left open."""
    q, heads, shared = call.known(0), call.integer("num_heads", 1), call.integer("kv_num_heads", 1)
    size = floor_div(q[2], heads if call.has(1) else heads + 2 * shared)
    call.put(0, q if call.has(1) else (q[0], q[1], size * heads))
    for index in (1, 2):
        call.put(index, (q[0], shared, call.unknown(), size), call.dtype(index + 2) or call.dtype(0))


@shape_rule("RelativePositionBias", domain=_MS)
def relative_position_bias(call: Call) -> None:
    """[1, heads, queries, keys]; the lengths are values."""
    lengths: list[Dim] = []
    for index in (1, 2):
        numbers = call.ints(index)
        lengths.append(numbers[0] if numbers else call.unknown())
    call.put(0, (1, call.known(0)[1], *lengths), call.dtype(0))


@shape_rule("EmbedLayerNormalization", "QEmbedLayerNormalization", domain=_MS, dtype=FLOAT32)
def embed_layer_norm(call: Call) -> None:
    """[batch, time] looked up in a table; the mask index is a vector."""
    tokens, table = call.known(0), call.known(2)
    kind = FLOAT32 if call.node.op.startswith("Q") else call.dtype(2)
    call.put(0, (*tokens, table[1]), kind)
    call.put(1, (tokens[0],), INT32)
    call.put(2, (*tokens, table[1]), kind)
