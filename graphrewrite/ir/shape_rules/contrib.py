"""Operators of onnxruntime's own domain whose shapes follow simply from the inputs."""

from graphrewrite.ir.shape_rules.call import Call, shape_rule
from graphrewrite.ir.shape_rules.elementwise import broadcast_shapes
from graphrewrite.ir.shape_rules.linear import matmul_shape

_MS = "com.microsoft"


@shape_rule(
    "Gelu",
    "FastGelu",
    "BiasGelu",
    "QuickGelu",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "RotaryEmbedding",
    "BiasSoftmax",
    "BiasDropout",
    "GroupNorm",
    "SkipGroupNorm",
    "NhwcInstanceNormalization",
    domain=_MS,
)
def same_shape(call: Call) -> None:
    """Pass the shape of input 0 (the sum of a skip norm included)."""
    call.put(0, call.shape(0))
    if call.node.op.startswith("Skip"):
        call.put(3, call.shape(0))


@shape_rule("SimplifiedLayerNormalization")
def simplified_layer_norm(call: Call) -> None:
    """Pass the shape: onnxruntime files this one under the default domain."""
    call.put(0, call.shape(0))


@shape_rule("FusedMatMul", domain=_MS)
def fused_matmul(call: Call) -> None:
    """A matrix product whose operands may be transposed."""
    a, b = call.known(0), call.known(1)
    if call.integer("transBatchA", 0) or call.integer("transBatchB", 0):
        return
    if call.integer("transA", 0) and len(a) > 1:
        a = (*a[:-2], a[-1], a[-2])
    if call.integer("transB", 0) and len(b) > 1:
        b = (*b[:-2], b[-1], b[-2])
    call.put(0, matmul_shape(a, b))


@shape_rule("QLinearAdd", "QLinearMul", domain=_MS)
def quantized_arithmetic(call: Call) -> None:
    """Broadcast; scales and zero points stand between the operands."""
    call.put(0, broadcast_shapes([call.known(0), call.known(3)]))


@shape_rule("MultiHeadAttention", domain=_MS)
def multi_head_attention(call: Call) -> None:
    """[batch, time, heads * value size] when query and value come separately and unpacked."""
    q, v = call.known(0), call.shape(2)
    if len(q) == 3:
        call.put(0, (q[0], q[1], v[2] if v is not None and len(v) == 3 else q[2]))
