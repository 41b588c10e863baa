"""Rules of onnxruntime's attention operators and rotary embeddings."""

from collections import Counter

import numpy as np
import pytest

from graphrewrite.dims import groups
from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn

cases = Cases()
MS = "com.microsoft"


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


# ---------------------------------------------------------------------------------------------------- the standard's


@cases.add(
    "2: c[1] o[0]*4 s[1] w[1]*4", "2: o[0]*8 w[1]*8", "4: o[0]*2 w[1]*2", opsets=[23], symbolic=[False]
)
def standard_rotary_embedding_of_part_of_the_dims(d: Drawing) -> Drawn:
    """Two heads of eight dims, the first four of them turned in pairs; places come last."""
    x = d.matmul(d.input(2, 5, 4), d.floats(4, 16, name="w"))
    places = d.const(np.arange(5, dtype=np.int64)[None].repeat(2, 0))
    c, s = (d.floats(9, 2, name=name) for name in "cs")
    return read(
        d, d.op("RotaryEmbedding", x, c, s, places, shape=x.shape, num_heads=2, rotary_embedding_dim=4)
    )


@cases.add("2: o[0]*6 w[1]*6", "3: c[2] o[0]*4 s[2] w[1]*4", opsets=[23], symbolic=[False])
def standard_rotary_embedding_in_pairs_side_by_side(d: Drawing) -> Drawn:
    """Heads are an axis of their own, all six dims turn, the table has a row per sample and step."""
    x = d.matmul(d.input(2, 5, 4), d.floats(4, 12, name="w"))
    x = d.transpose(d.reshape(x, 2, 5, 2, 6), 0, 2, 1, 3)
    c, s = (d.floats(2, 5, 3, name=name) for name in "cs")
    y = d.op("RotaryEmbedding", x, c, s, shape=x.shape, interleaved=1)
    return read(d, d.reshape(d.transpose(y, 0, 2, 1, 3), 2, 5, 12))


@cases.add(
    "2: k[1]*3 m[1] n[1] o[0]*4 q[1]*6 v[1]*2", "2: n[3] o[0]*4 v[1]*2", "3: k[1]*2 m[3] q[1]*4",
    "2: o[0]*4 q[1]*6", opsets=[23], symbolic=[False],
)  # fmt: skip
def standard_attention_with_a_stored_memory(d: Drawing) -> Drawn:
    """Four query heads for two key heads; earlier keys and values are stored, all of them come out unread."""
    q, k, v = projected(d, d.input(2, 5, 4), q=12, k=6, v=4)
    m, n = d.floats(2, 2, 7, 3, name="m"), d.floats(2, 2, 7, 2, name="n")
    y, *_ = d.ops(
        "Attention", q, k, v, None, m, n, shapes=[(2, 5, 8), (2, 2, 12, 3), (2, 2, 12, 2)], q_num_heads=4,
        kv_num_heads=2,
    )  # fmt: skip
    return read(d, y)


@cases.add(symbolic=[False], opsets=[23], pins={"k[1]": "graph input m", "v[1]": "graph input"}, moves=False)
def standard_attention_with_a_cache(d: Drawing) -> list[Drawn]:
    """Heads and dims of the cache are the caller's."""
    q, k, v = projected(d, d.input(2, 5, 4), q=6, k=6, v=6)
    m, n = d.input(2, 2, 7, 3, name="m"), d.input(2, 2, 7, 3, name="n")
    y, *present = d.ops(
        "Attention", q, k, v, None, m, n, shapes=[(2, 5, 6), (2, 2, 12, 3), (2, 2, 12, 3)], q_num_heads=2,
        kv_num_heads=2,
    )  # fmt: skip
    return [read(d, y), *present]


# ----------------------------------------------------------------------------------------------------------- kinds

KINDS = {
    "attention-with-its-projection": {"head_dim": 2, "heads": 1},
    "attention-with-values-of-another-size": {"head_dim": 2, "heads": 1, "mlp": 1},
    "multi-head-attention": {"head_dim": 2, "heads": 1},
    "multi-head-attention-with-biases": {"head_dim": 2, "heads": 1},
    "multi-head-attention-over-a-stored-memory": {"head_dim": 1, "heads": 1},
    "standard-attention-with-a-stored-memory": {"head_dim": 2, "heads": 2},
}


@pytest.mark.parametrize("name", KINDS)
def test_heads_and_dims_are_told_apart(name: str) -> None:
    case = next(case for case in cases if case.name == name)

    assert Counter(group.kind for group in groups(case.model())) == KINDS[name]


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)
