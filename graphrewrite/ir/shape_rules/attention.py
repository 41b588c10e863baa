"""Attention in one node, and rotary embeddings."""

from graphrewrite.ir.shape_rules.call import Call, shape_rule
from graphrewrite.ir.symbols import Dim, floor_div


@shape_rule("Attention")
def attention(call: Call) -> None:
    """Inputs [batch, heads, time, dim] or packed [batch, time, heads * dim]; caches come out longer."""
    q, k, v = call.known(0), call.known(1), call.known(2)
    packed = len(q) == 3
    heads: Dim
    groups: Dim
    if packed:
        heads, groups = call.integer("q_num_heads", 1), call.integer("kv_num_heads", 1)
        key_dim, value_dim = floor_div(k[2], groups), floor_div(v[2], groups)
        time, length = q[1], k[1]
        call.put(0, (q[0], time, value_dim * heads))
    else:
        heads, groups, key_dim, value_dim = q[1], k[1], k[3], v[3]
        time, length = q[2], k[2]
        call.put(0, (*q[:3], value_dim))
    past = call.shape(4) if call.has(4) else None
    total: Dim = length
    if call.has(4):
        total = call.unknown() if past is None else past[2] + length
    call.put(1, (q[0], groups, total, key_dim), call.dtype(1))
    call.put(2, (q[0], groups, total, value_dim), call.dtype(2))
    call.put(3, (q[0], heads, time, total))


@shape_rule("FlexAttention", domain="ai.onnx.preview")
def flex_attention(call: Call) -> None:
    """[batch, heads, time, value size]."""
    q, v = call.known(0), call.known(2)
    call.put(0, (*q[:3], v[3]))


@shape_rule("RotaryEmbedding")
def rotary(call: Call) -> None:
    """Pass the shape."""
    call.put(0, call.shape(0))
