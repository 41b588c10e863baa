"""Fused attention: scores are queries times keys, results are probabilities times values.

Every score is counted, whether a causal mask or a window makes it useless or not: that is what a dense kernel computes,
and what the same model costs when it is exported as separate nodes.
"""

from math import prod
from typing import NamedTuple

from graphrewrite.cost.registry import macs_rule, ops_rule
from graphrewrite.cost.site import Site, Sizes, Unsized

_MICROSOFT = "com.microsoft"
# scale, mask, and the five of softmax: largest, difference, exponential, sum, quotient
_PER_SCORE = 7


class Heads(NamedTuple):
    """Sizes of one attention: `batch` and `heads` of the queries, lengths, and widths of one head."""

    batch: int
    heads: int
    queries: int
    keys: int
    key_width: int
    value_width: int

    @property
    def scores(self) -> int:
        """Number of query-key pairs over all heads and samples."""
        return self.batch * self.heads * self.queries * self.keys

    @property
    def macs(self) -> int:
        """Both products."""
        return self.scores * (self.key_width + self.value_width)


def _standard(site: Site) -> Heads:
    """Read ai.onnx Attention: Q, K, V are [B, heads, length, width] or [B, length, heads * width], the past fifth."""
    q, k, v = site.input(0), site.input(1), site.input(2)
    past = site.input(4)[2] if site.has(4) else 0
    if len(q) == 4:
        return Heads(q[0], q[1], q[2], k[2] + past, q[3], v[3])
    heads = site.attr("q_num_heads", 0)
    shared = site.attr("kv_num_heads", 0) or heads
    if not heads:
        raise Unsized("q_num_heads")
    return Heads(q[0], heads, q[1], k[1] + past, q[2] // heads, v[2] // shared)


@macs_rule("Attention")
@macs_rule("FlexAttention", domain="ai.onnx.preview")
def attention(site: Site) -> int:
    """Both products over all past and present keys; the modifying bodies of FlexAttention are counted on top."""
    return _standard(site).macs


@ops_rule("Attention")
@ops_rule("FlexAttention", domain="ai.onnx.preview")
def attention_softmax(site: Site) -> int:
    """Scale, mask and softmax of every score."""
    return _PER_SCORE * _standard(site).scores


def _with_projection(site: Site, past_input: int) -> tuple[int, Heads]:
    """Read com.microsoft Attention: x [B, S, in] times weights [in, q + k + v]; the past is [2, B, n, P, d]."""
    x, weights = site.input(0), site.input(1)
    hidden = site.int_list("qkv_hidden_sizes") or [weights[-1] // 3] * 3
    heads = site.attr("num_heads", 1)
    past = site.input(past_input)[3] if site.has(past_input) else 0
    projection = prod(x) * weights[-1]
    return projection, Heads(x[0], heads, x[1], x[1] + past, hidden[0] // heads, hidden[2] // heads)


@macs_rule("Attention", domain=_MICROSOFT)
def projected_attention(site: Site) -> int:
    """The joint projection of queries, keys and values, and both products."""
    projection, heads = _with_projection(site, 4)
    return projection + heads.macs


@ops_rule("Attention", domain=_MICROSOFT)
def projected_softmax(site: Site) -> int:
    """Scale, mask and softmax of every score."""
    return _PER_SCORE * _with_projection(site, 4)[1].scores


@macs_rule("QAttention", domain=_MICROSOFT)
def quantized_attention(site: Site) -> int:
    """As Attention with the projection; the past is the ninth input."""
    projection, heads = _with_projection(site, 8)
    return projection + heads.macs


@ops_rule("QAttention", domain=_MICROSOFT)
def quantized_softmax(site: Site) -> int:
    """Scale, mask and softmax of every score."""
    return _PER_SCORE * _with_projection(site, 8)[1].scores


def _multi_head(site: Site) -> Heads:
    """Read MultiHeadAttention.

    query is [B, S, n * d]; key and value are [B, L, n * d], or cached [B, n, L, d]; key may hold both as
    [B, L, n, 2, d], and query all three as [B, S, n, 3, d]. past_key is [B, n, P, d].
    """
    q = site.input(0)
    heads = site.attr("num_heads", 1)
    before = (
        6 if site.node.op == "MultiHeadAttention" else 5
    )  # DecoderMaskedMultiHeadAttention, one step of decoding
    past = site.input(before)[2] if site.has(before) else 0
    if len(q) == 5:
        return Heads(q[0], heads, q[1], q[1] + past, q[4], q[4])
    width = q[2] // heads
    k = site.input(1)
    if len(k) == 5:
        return Heads(q[0], heads, q[1], k[1] + past, width, k[4])
    v = site.input(2)
    if len(k) == 4:
        return Heads(q[0], heads, q[1], k[2] + past, width, v[3])
    return Heads(q[0], heads, q[1], k[1] + past, width, v[2] // heads)


@macs_rule("MultiHeadAttention", domain=_MICROSOFT)
@macs_rule("DecoderMaskedMultiHeadAttention", domain=_MICROSOFT)
def multi_head(site: Site) -> int:
    """Both products."""
    return _multi_head(site).macs


@ops_rule("MultiHeadAttention", domain=_MICROSOFT)
@ops_rule("DecoderMaskedMultiHeadAttention", domain=_MICROSOFT)
def multi_head_softmax(site: Site) -> int:
    """Scale, mask and softmax of every score."""
    return _PER_SCORE * _multi_head(site).scores


def _grouped_query(site: Site) -> Heads:
    """Read GroupQueryAttention: query [B, S, n * d], or all three packed [B, S, (n + 2 kv) d] when there is no key.

    past_key is [B, kv, P, d]; the keys attended to are the present ones, [B, kv, T, d], when that output is sized.
    """
    q = site.input(0)
    heads, shared = site.attr("num_heads", 1), site.attr("kv_num_heads", 1)
    width = q[2] // heads if site.has(1) else q[2] // (heads + 2 * shared)
    keys = q[1] + (site.input(3)[2] if site.has(3) else 0)
    try:
        present: Sizes = site.output(1)
        keys = present[2] if len(present) == 4 else keys
    except Unsized:
        pass
    return Heads(q[0], heads, q[1], keys, width, width)


@macs_rule("GroupQueryAttention", domain=_MICROSOFT)
def grouped_query(site: Site) -> int:
    """Both products; sharing keys between heads saves memory, not multiplications."""
    return _grouped_query(site).macs


@ops_rule("GroupQueryAttention", domain=_MICROSOFT)
def grouped_query_softmax(site: Site) -> int:
    """Scale, mask and softmax of every score."""
    return _PER_SCORE * _grouped_query(site).scores


@macs_rule("LinearAttention")
@macs_rule("LinearAttention", domain=_MICROSOFT)
def linear_attention(site: Site) -> int:
    """Every step updates a state [key width, value width] per key head and reads it once per query head.

    The delta rules read the state a second time, to correct what is written.
    """
    batch, steps, packed = site.input(0)
    heads, shared = site.attr("q_num_heads", 1), site.attr("kv_num_heads", 1)
    state = (packed // heads) * (site.input(2)[2] // shared)
    reads = 2 if "delta" in site.attr("update_rule", "gated_delta") else 1
    return batch * steps * state * (heads + reads * shared)


@ops_rule("LinearAttention")
@ops_rule("LinearAttention", domain=_MICROSOFT)
def linear_attention_decay(site: Site) -> int:
    """The gated rules scale the whole state of each key head at every step."""
    if "gated" not in site.attr("update_rule", "gated_delta"):
        return 0
    batch, steps, packed = site.input(0)
    return batch * steps * (packed // site.attr("q_num_heads", 1)) * site.input(2)[2]
