"""Rules of the layers that onnxruntime fuses, of its attention operators and of packed weights."""

import numpy as np
import pytest

from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn

cases = Cases()
MS = "com.microsoft"


def head(d: Drawing, x: Drawn, width: int) -> Drawn:
    """Read the last axis."""
    return d.matmul(x, d.floats(width, 3, name="last"))


def hidden(d: Drawing, width: int = 6, name: str = "w", rows: int = 3) -> Drawn:
    """Draw a hidden layer over an input of rank three."""
    return d.matmul(d.input(2, rows, 4), d.floats(4, width, name=name))


# ------------------------------------------------------------------------------------------- activations, products


@cases.add("6: b[0] last[0] w[1]")
def bias_and_gelu(d: Drawing) -> Drawn:
    x = hidden(d)
    return head(d, d.op("BiasGelu", x, d.floats(6, name="b"), shape=x.shape, domain=MS), 6)


@cases.add("6: b[0] last[0] w[1]")
def fast_and_quick_gelu(d: Drawing) -> Drawn:
    x = hidden(d)
    y = d.op("FastGelu", x, d.floats(6, name="b"), shape=x.shape, domain=MS)
    y = d.op("Gelu", y, shape=x.shape, domain=MS)
    return head(d, d.op("QuickGelu", y, shape=x.shape, domain=MS, alpha=1.5), 6)


@cases.add("5: b[0] last[0] w[0]", symbolic=[False])
def fused_gemm(d: Drawing) -> Drawn:
    x = d.input(2, 4)
    w, b = d.floats(5, 4, name="w"), d.floats(5, name="b")
    y = d.op(
        "FusedGemm", x, w, b, shape=(2, 5), domain=MS, transB=1, activation="LeakyRelu", activation_alpha=0.1
    )
    return head(d, y, 5)


@cases.add("6: last[0] w[1]")
def fused_matmul_with_a_transposed_first_operand(d: Drawing) -> Drawn:
    x = d.unsqueeze(hidden(d), 1)
    y = d.transpose(x, 0, 1, 3, 2)
    y = d.op("FusedMatMul", y, d.floats(6, 3, name="last"), shape=(*x.shape[:3], 3), domain=MS, transA=1)
    return y


@cases.add("6: last[0] w[1]")
def transpose_matmul(d: Drawing) -> Drawn:
    x = hidden(d)
    y = d.transpose(x, 0, 2, 1)
    return d.op(
        "TransposeMatMul", y, d.floats(6, 3, name="last"), shape=(*x.shape[:2], 3), domain=MS, transA=1
    )


@cases.add("6: k[1] q[1]", symbolic=[False])
def fused_matmul_with_its_rows_before_its_batch(d: Drawing) -> Drawn:
    """A [rows, batch, k] and B [k, batch, columns] both come with what is multiplied first."""
    x = d.input(3, 2, 4)
    q = d.matmul(x, d.floats(4, 6, name="q"))
    k = d.transpose(d.matmul(x, d.floats(4, 6, name="k")), 2, 1, 0)
    return d.op("FusedMatMul", q, k, shape=(2, 3, 3), domain=MS, transBatchA=1, transBatchB=1, alpha=0.5)


# ---------------------------------------------------------------------------------------------------- convolutions


def image(d: Drawing, channels: int = 3) -> Drawn:
    return d.input(1, channels, 5, 5)


def pooled(d: Drawing, x: Drawn) -> Drawn:
    """Mean over space, then read the channels."""
    return head(d, d.reduce("ReduceMean", x, 2, 3, keep=False), x.size(1))


@cases.add("5: b[0] last[0] w[0] z[0]", opsets=(13,))
def fused_conv_with_a_residual(d: Drawing) -> Drawn:
    """A convolution plus its fourth input, then an activation: both have the same channels."""
    x = image(d)
    shape = (x.shape[0], 5, 5, 5)
    z = d.op("Conv", x, d.floats(5, 3, 1, 1, name="z"), shape=shape)
    w, b = d.floats(5, 3, 3, 3, name="w"), d.floats(5, name="b")
    return pooled(d, d.op("FusedConv", x, w, b, z, shape=shape, domain=MS, pads=[1] * 4, activation="Relu"))


@cases.add("4: b[0] last[0] v[0] w[0]", opsets=(13,))
def fused_conv_of_one_channel_each(d: Drawing) -> Drawn:
    x = image(d)
    shape = (x.shape[0], 4, 5, 5)
    y = d.op("Conv", x, d.floats(4, 3, 1, 1, name="v"), shape=shape)
    w, b = d.floats(4, 1, 3, 3, name="w"), d.floats(4, name="b")
    return pooled(
        d, d.op("FusedConv", y, w, b, shape=shape, domain=MS, group=4, pads=[1] * 4, activation="Tanh")
    )


@cases.add("4: last[0] w[1]", opsets=(13,))
def max_pool_with_channels_last(d: Drawing) -> Drawn:
    """The runtime has this one for bytes only."""
    x = d.input(1, 5, 5, 3)
    y = d.clip(d.matmul(x, d.floats(3, 4, name="w")), -1.0, 1.0)
    q = d.op("QuantizeLinear", y, d.scalar(0.01), d.const(np.uint8(128)), shape=y.shape)
    p = d.op("NhwcMaxPool", q, shape=(x.shape[0], 2, 2, 4), domain=MS, kernel_shape=[2, 2], strides=[2, 2])
    y = d.op("DequantizeLinear", p, d.scalar(0.01), d.const(np.uint8(128)), shape=p.shape)
    return head(d, y, 4)


@cases.add(symbolic=[False], pins={"w[0]": "blocked layout", "v[1]": "blocked layout"}, moves=False)
def convolution_in_blocks(d: Drawing) -> Drawn:
    x = d.input(1, 16, 4, 4)
    x = d.op("Conv", x, d.floats(16, 16, 1, 1, name="w"), shape=x.shape)
    blocks = "com.microsoft.nchwc"
    y = d.op("ReorderInput", x, shape=x.shape, domain=blocks)
    y = d.op("Conv", y, d.floats(16, 16, 1, 1, name="blocks"), shape=(1, 16, 4, 4), domain=blocks)
    y = d.op("ReorderOutput", y, shape=(1, 16, 4, 4), domain=blocks, channels=16)
    return d.op("Conv", y, d.floats(3, 16, 1, 1, name="v"), shape=(1, 3, 4, 4))


# ----------------------------------------------------------------------------------------------------------- norms


@cases.add("6: beta[0] bias[0] gamma[0] last[0] v[1] w[1]", opsets=(11, 17))
def skip_layer_norm(d: Drawing) -> list[Drawn]:
    """Both summands, the norm and the sum that goes on have one width."""
    x = d.input(2, 3, 4)
    a, b = (d.matmul(x, d.floats(4, 6, name=name)) for name in "wv")
    vectors = (d.floats(6, name=name) for name in ("gamma", "beta", "bias"))
    nothing = ()
    y, _, _, total = d.ops(
        "SkipLayerNormalization", a, b, *vectors, shapes=[a.shape, nothing, nothing, a.shape], domain=MS
    )
    return [head(d, d.add(y, total), 6)]


@cases.add("6: gamma[0] last[0] s[1] w[1]")
def skip_layer_norm_of_one_shared_residual(d: Drawing) -> Drawn:
    """The residual may lack the batch."""
    x = hidden(d)
    skip = d.floats(3, 6, name="s")
    y = d.op("SkipLayerNormalization", x, skip, d.floats(6, name="gamma"), shape=x.shape, domain=MS)
    return head(d, y, 6)


@cases.add("6: bias[0] gamma[0] last[0] v[1] w[1]")
def skip_simplified_layer_norm(d: Drawing) -> Drawn:
    x = d.input(2, 3, 4)
    a, b = (d.matmul(x, d.floats(4, 6, name=name)) for name in "wv")
    gamma, bias = d.floats(6, name="gamma"), d.floats(6, name="bias")
    y, _, _, total = d.ops(
        "SkipSimplifiedLayerNormalization", a, b, gamma, bias, shapes=[a.shape, (), (), a.shape], domain=MS,
        epsilon=1e-5,
    )  # fmt: skip
    return head(d, d.mul(y, total), 6)


@cases.add("6: gamma[0] last[0] w[1]", opsets=(11, 17))
def simplified_layer_norm(d: Drawing) -> Drawn:
    x = hidden(d)
    y = d.op("SimplifiedLayerNormalization", x, d.floats(6, name="gamma"), shape=x.shape, axis=-1)
    return head(d, y, 6)


@cases.add(
    "6: beta[0] gamma[0] last[0] place[1] segment[1] word[1]",
    pins={"word[0]": "looked up", "place[0]": "looked up"},
)
def embedding_with_a_norm(d: Drawing) -> Drawn:
    tokens, kinds = (d.input(2, 3, dtype=np.int32) for _ in range(2))
    tables = [d.floats(size, 6, name=name) for size, name in ((9, "word"), (5, "place"), (2, "segment"))]
    vectors = [d.floats(6, name=name) for name in ("gamma", "beta")]
    shape = (*tokens.shape, 6)
    kinds = d.op("Sub", kinds, kinds, shape=kinds.shape)
    tokens = d.op("Mod", tokens, d.const(np.int32(9)), shape=tokens.shape)
    y, _, total = d.ops(
        "EmbedLayerNormalization", tokens, kinds, *tables, *vectors,
        shapes=[shape, (tokens.shape[0],), shape], domain=MS,
    )  # fmt: skip
    return head(d, d.add(y, total), 6)


# ------------------------------------------------------------------------------------------------------- attention


def projected(d: Drawing, x: Drawn, **sizes: int) -> list[Drawn]:
    """Draw a projection of the last axis for each name."""
    return [d.matmul(x, d.floats(x.size(-1), size, name=name)) for name, size in sizes.items()]


def read(d: Drawing, y: Drawn) -> Drawn:
    return d.matmul(y, d.floats(y.size(-1), 3, name="o"))


@cases.add("2: b[0]*9 o[0]*3 w[1]*9", "3: b[0]*2 o[0]*2 w[1]*2", "3: b[0]*4 w[1]*4")
def attention_with_its_projection(d: Drawing) -> Drawn:
    """Two heads of three dims; dims of queries and keys go together, those of values alone."""
    x = d.input(2, 5, 4)
    w, b = d.floats(4, 18, name="w"), d.floats(18, name="b")
    return read(d, d.op("Attention", x, w, b, shape=(*x.shape[:2], 6), domain=MS, num_heads=2))


@cases.add("2: b[0]*12 o[0]*2 s[1] w[1]*12", "2: b[0]*2 o[0]*2 w[1]*2", "5: b[0]*4 w[1]*4", "6: a[1] w[0]")
def attention_with_values_of_another_size(d: Drawing) -> Drawn:
    """Five dims for queries and keys, two for values, a bias per head, a causal mask, a width that may shrink."""
    x = d.matmul(d.input(2, 5, 4), d.floats(4, 6, name="a"))
    w, b = d.floats(6, 24, name="w"), d.floats(24, name="b")
    bias = d.floats(1, 2, 5, 5, name="s")
    y = d.op(
        "Attention", x, w, b, None, None, bias, shape=(*x.shape[:2], 4), domain=MS, num_heads=2,
        qkv_hidden_sizes=[10, 10, 4], unidirectional=1, scale=0.3,
    )  # fmt: skip
    return read(d, y)


@cases.add(
    symbolic=[False],
    pins={"w[1]": "graph input past"},
    moves=False,
)
def attention_with_a_cache(d: Drawing) -> list[Drawn]:
    """Heads and dims of the cache are the caller's; what is left of the weight follows them."""
    x, past = d.input(1, 5, 4), d.input(2, 1, 2, 4, 3, name="past")
    w, b = d.floats(4, 18, name="w"), d.floats(18, name="b")
    y, present = d.ops(
        "Attention", x, w, b, None, past, shapes=[(1, 5, 6), (2, 1, 2, 9, 3)], domain=MS, num_heads=2,
    )  # fmt: skip
    return [read(d, y), present]


@cases.add("2: k[1]*3 o[0]*2 q[1]*3 v[1]*2", "2: o[0]*2 v[1]*2", "3: k[1]*2 q[1]*2")
def multi_head_attention(d: Drawing) -> Drawn:
    """Queries, keys and values from three projections, values two dims a head."""
    q, k, v = projected(d, d.input(2, 5, 4), q=6, k=6, v=4)
    return read(d, d.op("MultiHeadAttention", q, k, v, shape=(*q.shape[:2], 4), domain=MS, num_heads=2))


@cases.add(
    "2: b[0]*9 k[1]*3 o[0]*3 q[1]*3 s[1] v[1]*3", "3: b[0]*2 o[0]*2 v[1]*2", "3: b[0]*4 k[1]*2 q[1]*2",
    symbolic=[False],
)  # fmt: skip
def multi_head_attention_with_biases(d: Drawing) -> Drawn:
    """A bias of the projections, which the node adds, a padding mask and a bias per head of the scores."""
    x = d.input(2, 5, 4)
    q, k, v = projected(d, x, q=6, k=6, v=6)
    mask = d.const(np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], dtype=np.int32))
    y = d.op(
        "MultiHeadAttention", q, k, v, d.floats(18, name="b"), mask, d.floats(1, 2, 5, 5, name="s"),
        shape=(2, 5, 6), domain=MS, num_heads=2,
    )  # fmt: skip
    return read(d, y)


@cases.add("2: m[1] n[1] o[0]*3 q[1]*3", "3: m[3] n[3] o[0]*2 q[1]*2", symbolic=[False])
def multi_head_attention_over_a_stored_memory(d: Drawing) -> Drawn:
    """Keys and values come in the form of a cache, [batch, heads, time, dim], the same dims in both."""
    q = d.matmul(d.input(2, 5, 4), d.floats(4, 6, name="q"))
    k, v = (d.floats(2, 2, 7, 3, name=name) for name in "mn")
    y = d.op("MultiHeadAttention", q, k, v, shape=(2, 5, 6), domain=MS, num_heads=2)
    return read(d, y)


@cases.add(
    "2: k[1]*16 o[0]*32 q[1]*32 v[1]*16",
    "2: k[1]*16 o[0]*32 q[1]*32 v[1]*16",
    "2: o[0]*32 q[1]*32",
    symbolic=[False],
)
def group_query_attention(d: Drawing) -> Drawn:
    """Four query heads for two key heads, sixteen dims a head: key heads, their repeats, blocks of eight dims."""
    x = d.input(1, 5, 4)
    q, k, v = projected(d, x, q=64, k=32, v=32)
    batch = d.const(np.array([4], dtype=np.int32))
    y = d.ops(
        "GroupQueryAttention", q, k, v, None, None, batch, d.const(np.int32(5)),
        shapes=[q.shape], domain=MS, num_heads=4, kv_num_heads=2,
    )[0]  # fmt: skip
    return read(d, y)


@cases.add(
    "2: c[1]*8 o[0]*64 s[1]*8 w[1]*128", "2: o[0]*64 w[1]*128", "2: o[0]*64 w[1]*64", symbolic=[False]
)  # fmt: skip
def packed_group_query_attention_with_a_rotary_table(d: Drawing) -> Drawn:
    """One projection for four query and two key heads of 32 dims, turned in two blocks of eight pairs."""
    x = d.matmul(d.input(1, 5, 4), d.floats(4, 256, name="w"))
    count, length = d.const(np.array([4], dtype=np.int32)), d.const(np.int32(5))
    tables = [d.floats(9, 16, name=name) for name in "cs"]
    y = d.ops(
        "GroupQueryAttention", x, None, None, None, None, count, length, *tables,
        shapes=[(1, 5, 128)], domain=MS, num_heads=4, kv_num_heads=2, do_rotary=1,
    )[0]  # fmt: skip
    return read(d, y)


@cases.add(
    "2: c[1]*8 k[1]*32 o[0]*32 q[1]*32 s[1]*8 v[1]*32", "2: k[1]*32 o[0]*32 q[1]*32 v[1]*32", symbolic=[False]
)  # fmt: skip
def group_query_attention_with_interleaved_pairs(d: Drawing) -> Drawn:
    x = d.input(1, 5, 4)
    q, k, v = projected(d, x, q=64, k=64, v=64)
    count, length = d.const(np.array([4], dtype=np.int32)), d.const(np.int32(5))
    tables = [d.floats(9, 16, name=name) for name in "cs"]
    y = d.ops(
        "GroupQueryAttention", q, k, v, None, None, count, length, *tables,
        shapes=[q.shape], domain=MS, num_heads=2, kv_num_heads=2, do_rotary=1, rotary_interleaved=1,
    )[0]  # fmt: skip
    return read(d, y)


@cases.add("2: o[0]*16 q[1]*16", symbolic=[False], pins={"k[1]": "graph input"})
def group_query_attention_with_a_cache(d: Drawing) -> list[Drawn]:
    """The cache holds key heads and dims; the second query head of each key head may go."""
    x = d.input(1, 1, 4)
    q, k, v = projected(d, x, q=32, k=16, v=16)
    past = [d.input(1, 2, 4, 8, name=name) for name in ("past_key", "past_value")]
    count, length = d.const(np.array([4], dtype=np.int32)), d.const(np.int32(5))
    y, *present = d.ops(
        "GroupQueryAttention", q, k, v, *past, count, length,
        shapes=[q.shape, (1, 2, 5, 8), (1, 2, 5, 8)], domain=MS, num_heads=4, kv_num_heads=2,
    )  # fmt: skip
    return [read(d, y), *present]


@cases.add("2: c[1] o[0]*4 s[1] w[1]*4", "2: o[0]*8 w[1]*8", "4: o[0]*2 w[1]*2", symbolic=[False])
def rotary_embedding(d: Drawing) -> Drawn:
    """Two heads of eight dims, the first four of them turned in pairs."""
    x = d.matmul(d.input(2, 5, 4), d.floats(4, 16, name="w"))
    places = d.const(np.arange(5, dtype=np.int64)[None].repeat(2, 0))
    c, s = (d.floats(9, 2, name=name) for name in "cs")
    y = d.op(
        "RotaryEmbedding", x, places, c, s, shape=x.shape, domain=MS, num_heads=2, rotary_embedding_dim=4
    )
    return read(d, y)


# -------------------------------------------------------------------------------------------------- packed weights


def bits_of(
    d: Drawing, rows: int, inner: int, block: int, bits: int, name: str
) -> tuple[Drawn, Drawn, Drawn]:
    """Draw a packed weight [rows, blocks, bytes], its scales and its zero points."""
    count = inner // block
    weight = d.rng.integers(0, 256, (rows, count, block * bits // 8)).astype(np.uint8)
    scales = d.floats(rows, count, scale=0.01, offset=0.05, name=f"{name}_scale")
    zero = d.rng.integers(0, 256, (rows, -(-count * bits // 8))).astype(np.uint8)
    return d.const(weight, name), scales, d.const(zero, f"{name}_zero")


@cases.add("3: a[1]*16 p[1] p_scale[1]", "5: b[0] last[0] p[0] p_scale[0]")
def matmul_with_a_weight_of_four_bits(d: Drawing) -> Drawn:
    """Rows go one by one, inner positions in blocks of sixteen; zero points are packed in halves of a byte."""
    x = hidden(d, 48, "a")
    weight, scales, zero = bits_of(d, 5, 48, 16, 4, "p")
    y = d.op(
        "MatMulNBits", x, weight, scales, zero, None, d.floats(5, name="b"), shape=(*x.shape[:2], 5), domain=MS,
        K=48, N=5, bits=4, block_size=16,
    )  # fmt: skip
    return head(d, y, 5)


@cases.add("3: a[1]*16 p[1] p_scale[0]*4", "4: last[0] p[0] p_scale[0]*3")
def matmul_with_a_weight_of_eight_bits_and_scales_in_a_row(d: Drawing) -> Drawn:
    x = hidden(d, 48, "a")
    weight, scales, _ = bits_of(d, 4, 48, 16, 8, "q")
    weight = d.const(weight.tensor.values, "p")
    scales = d.const(scales.tensor.values.ravel(), "p_scale")
    y = d.op(
        "MatMulNBits", x, weight, scales, shape=(*x.shape[:2], 4), domain=MS, K=48, N=4, bits=8, block_size=16
    )
    return head(d, y, 4)


@cases.add("4: last[0] p[0] p_scale[0]", pins={"a[1]": "last one not full", "p[1]": "last one not full"})
def matmul_whose_last_block_is_not_full(d: Drawing) -> Drawn:
    x = hidden(d, 40, "a")
    weight, scales, _ = bits_of(d, 4, 48, 16, 4, "p")
    y = d.op(
        "MatMulNBits", x, weight, scales, shape=(*x.shape[:2], 4), domain=MS, K=40, N=4, bits=4, block_size=16
    )
    return head(d, y, 4)


@cases.add("3: a[1]*16 m[0]*5 p[0]*40", "5: last[0] m[0]*3 p[0]*24")
def matmul_with_a_weight_of_normal_floats(d: Drawing) -> Drawn:
    x = hidden(d, 48, "a")
    weight = d.const(d.rng.integers(0, 256, 5 * 48 // 2).astype(np.uint8), "p")
    scales = d.floats(15, scale=0.1, offset=1.0, name="m")
    y = d.op(
        "MatMulBnb4",
        x,
        weight,
        scales,
        shape=(*x.shape[:2], 5),
        domain=MS,
        K=48,
        N=5,
        block_size=16,
        quant_type=1,
    )
    return head(d, y, 5)


@cases.add(
    "6: a[1] b2[1] last[0] w1[2] w2[1]", "5: b1[1] w1[1] w2[2]", pins={"r[1]": "ranked", "w1[0]": "ranked"}
)
def mixture_of_experts(d: Drawing) -> Drawn:
    """Three experts, two of them for each token: width and inner width go, experts stay."""
    x = d.input(2, 3, 4)
    y = d.matmul(x, d.floats(4, 6, name="a"))
    router = d.reshape(d.matmul(x, d.floats(4, 3, name="r")), -1, 3)
    first, second = d.floats(3, 5, 6, name="w1"), d.floats(3, 6, 5, name="w2")
    b1, b2 = d.floats(3, 5, name="b1"), d.floats(3, 6, name="b2")
    y = d.op("MoE", y, router, first, b1, second, b2, shape=y.shape, domain=MS, k=2, activation_type="gelu")
    return head(d, y, 6)


@cases.add(
    "6: a[1] last[0] w1[2] w2[1]", "5: b1[1]*2 w1[1]*2 w2[2]", pins={"r[1]": "ranked", "w1[0]": "ranked"}
)
def mixture_of_gated_experts(d: Drawing) -> Drawn:
    """Gate and value of an inner position lie side by side in the first weight."""
    x = d.input(2, 3, 4)
    y = d.matmul(x, d.floats(4, 6, name="a"))
    router = d.reshape(d.matmul(x, d.floats(4, 3, name="r")), -1, 3)
    first, second = d.floats(3, 10, 6, name="w1"), d.floats(3, 6, 5, name="w2")
    y = d.op(
        "MoE", y, router, first, d.floats(3, 10, name="b1"), second, shape=y.shape, domain=MS, k=2,
        activation_type="swiglu", swiglu_fusion=1, activation_alpha=1.7, activation_beta=1.0, swiglu_limit=7.0,
    )  # fmt: skip
    return head(d, y, 6)


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)
