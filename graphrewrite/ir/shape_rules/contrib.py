"""Operators of onnxruntime's own domain whose shapes follow simply from the inputs."""

import numpy as np

from graphrewrite.ir.shape_rules.call import FLOAT32, INT32, Call, Unknown, shape_rule
from graphrewrite.ir.shape_rules.convolution import window
from graphrewrite.ir.shape_rules.elementwise import broadcast_shapes
from graphrewrite.ir.shape_rules.layout import concat_shapes
from graphrewrite.ir.shape_rules.linear import matmul_shape
from graphrewrite.ir.symbols import Dim, floor_div

_MS = "com.microsoft"


# fmt: off
@shape_rule(
    "BiasDropout", "BiasGelu", "BiasSoftmax", "FastGelu", "Gelu", "GroupNorm", "NhwcInstanceNormalization", "Inverse",
    "QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax", "QuickGelu", "RotaryEmbedding",
    "SimplifiedLayerNormalization", "SkipGroupNorm", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    domain=_MS,
)
# fmt: on
def same_shape(call: Call) -> None:
    """Pass the shape of input 0 (the sum of a skip norm included)."""
    call.put(0, call.shape(0))
    if call.node.op.startswith("Skip"):
        call.put(3, call.shape(0))


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
    if call.integer("transBatchA", 0) or call.integer("transBatchB", 0):
        raise Unknown
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


@shape_rule("FusedConv", domain=_MS)
def fused_conv(call: Call) -> None:
    """A Conv with an activation behind it."""
    x, w = call.known(0), call.known(1)
    call.put(0, (x[0], w[0], *window(call, x[2:], call.integers("kernel_shape") or w[2:])))


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


@shape_rule("MultiHeadAttention", domain=_MS)
def multi_head_attention(call: Call) -> None:
    """[batch, time, heads * value size] when query and value come separately and unpacked."""
    q, v = call.known(0), call.shape(2)
    if len(q) != 3 or v is None or len(v) != 3:
        raise Unknown
    call.put(0, (q[0], q[1], v[2]))


@shape_rule("Attention", domain=_MS)
def packed_attention(call: Call) -> None:
    """[batch, time, width]: the projection is part of the node, its weight holds query, key and value."""
    x, w = call.known(0), call.known(1)
    sizes = call.integers("qkv_hidden_sizes")
    width: Dim = sizes[2] if sizes else floor_div(w[1], 3)
    call.put(0, (x[0], x[1], width))


@shape_rule("GroupQueryAttention", domain=_MS)
def group_query_attention(call: Call) -> None:
    """The query's shape when key and value come separately; caches are left open."""
    if not call.has(1):
        raise Unknown
    call.put(0, call.shape(0))


@shape_rule("EmbedLayerNormalization", domain=_MS, dtype=FLOAT32)
def embed_layer_norm(call: Call) -> None:
    """[batch, time] looked up in a table; the mask index is a vector."""
    tokens, table = call.known(0), call.known(2)
    call.put(0, (*tokens, table[1]), call.dtype(2))
    call.put(1, (tokens[0],), INT32)
    call.put(2, (*tokens, table[1]), call.dtype(2))


@shape_rule("NhwcMaxPool", domain=_MS)
def channels_last_pool(call: Call) -> None:
    """[batch, space, channels]."""
    x, kernel = call.known(0), call.integers("kernel_shape")
    if kernel is None:
        raise Unknown
    ceil = bool(call.integer("ceil_mode", 0))
    call.put(0, (x[0], *window(call, x[1:-1], kernel, ceil=ceil), x[-1]))
