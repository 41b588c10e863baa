"""The attention operators of onnxruntime: packed axes seen as heads times dims, windows for queries, keys and values.

A cache ties heads and dims with the graph input it comes from, so what cannot be removed with a cache names that input.
"""

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING

from graphrewrite.dims.axes import Axis, of_rows, outer, rigid
from graphrewrite.dims.rules.contrib import MICROSOFT
from graphrewrite.dims.rules.quantized import follows, is_single
from graphrewrite.dims.sweep import Step, rule

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut


def windows(s: Step, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Return consecutive parts of an axis, none of which may become empty."""
    if axis.is_rigid:
        return [rigid(size, axis.cause) for size in sizes]
    rows, parts, start = s.rows(axis), [], 0
    for size in sizes:
        parts.append(s.window(of_rows(rows[start : start + size])))
        start += size
    return parts


def heads_of(s: Step, axis: Axis, heads: int) -> tuple[Axis, Axis]:
    """See a packed axis as heads and dims."""
    head, dim = s.digits(axis, [heads, axis.sizes[0] // heads])
    return head, dim


def packed(s: Step, head: Axis, dim: Axis) -> Axis:
    """Return the axis of heads times dims."""
    if head.is_rigid and dim.is_rigid:
        return rigid(head.sizes[0] * dim.sizes[0], head.cause or dim.cause)
    return of_rows(outer([s.rows(head), s.rows(dim)]))


def stay(s: Step, *axes: Axis) -> None:
    """Pin batch and sequence axes."""
    for axis in axes:
        s.pin(axis, "batch and sequence stay")


def per_head(s: Step, head: Axis, slot: int) -> None:
    """Tie heads with a bias of the scores, [batch or 1, heads or 1, queries, keys]."""
    if s.has(slot):
        bias = s.forced(s.axes(slot))
        stay(s, bias[0], *bias[2:])
        if bias[1].sizes != (1, 1):
            s.tie(bias[1], head)


def scale_stays(s: Step, cut: "Cut", dim: int) -> None:
    """Write the default scale out: it follows the head dim, which is about to shrink."""
    if not s.attr("scale"):
        cut.set_attr(s.index, "scale", 1.0 / sqrt(dim))


@rule("Attention", domain=MICROSOFT)
def projected_attention(s: Step) -> None:
    """Projection of queries, keys and values, and attention, in one node."""
    if s.integer("do_rotary", 0):
        s.refuse("a rotary embedding inside Attention is not followed")
        return
    head = _projected(s, "zero", (2,), past=4)
    per_head(s, head, 5)


@rule("QAttention", domain=MICROSOFT)
def quantized_attention(s: Step) -> None:
    """The same with quantized input and weight; scale and zero point of the weight may follow its columns."""
    if s.integer("do_rotary", 0) or not is_single(s, 3, 6):
        s.refuse("a rotary embedding or a scale per row inside QAttention is not followed")
        return
    _projected(s, "quantized", (2, 4, 7), past=8)


def _projected(s: Step, kind: str, of_columns: Sequence[int], past: int) -> Axis:
    """Tie and record a projection [in, queries + keys + values] with the attention behind it; return the heads."""
    x, w = s.forced(s.axes(0)), s.forced(s.axes(1))
    stay(s, x[0], x[1])
    s.tie(x[2], w[0])
    s.contracts(1, 0)
    s.mix(kind, 0, {2: x[2]})
    follows(s, w[1], *of_columns)
    sizes = s.integers("qkv_hidden_sizes") or [w[1].sizes[0] // 3] * 3
    heads = s.integer("num_heads", 1)
    parts = windows(s, w[1], sizes)
    (head, q_dim), (k_head, k_dim), (v_head, v_dim) = (heads_of(s, part, heads) for part in parts)
    s.tie(head, k_head)
    s.tie(head, v_head)
    s.tie(q_dim, k_dim)
    if s.node.op == "QAttention":  # which takes three equal parts only
        s.tie(q_dim, v_dim)
    # The products of queries and keys are inside the node: dead columns of the projection must come out as zero.
    s.mix(kind, 1, {1: w[1]})
    if s.has(2):
        s.mix("zero", 2, {0: w[1]})
    if s.has(past):
        cache = s.forced(s.axes(past))
        for mine, its in ((head, cache[2]), (k_dim, cache[4]), (v_dim, cache[4])):
            s.tie(mine, its)
    length = x[1].sizes[0]
    s.macs(1, [x[0], x[1], w[0], w[1]])
    s.macs(float(x[0].sizes[0] * length * length), [head, q_dim])
    s.macs(float(x[0].sizes[0] * length * length), [head, v_dim])
    s.multiplies((0, 1), [head], [q_dim, v_dim], whole=True)

    def follow(cut: "Cut") -> None:
        scale_stays(s, cut, sizes[0] // heads)
        cut.set_attr(s.index, "num_heads", cut.count(head))
        counts = [cut.count(part) for part in parts]
        if len(set(counts)) > 1 or "qkv_hidden_sizes" in s.node.attrs:
            cut.set_attr(s.index, "qkv_hidden_sizes", counts)

    s.restate([head, q_dim, v_dim], follow)
    s.out([x[0], x[1], parts[2] if parts[2].is_rigid else packed(s, head, v_dim)])
    if len(s.node.outputs) > 1 and s.node.outputs[1].name:
        two, batch, _, total, _ = s.out_sizes(1)
        s.tie(k_dim, v_dim)
        s.out([rigid(two), rigid(batch), head, rigid(total, "a cache"), k_dim], 1)
    return head


@rule("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(s: Step) -> None:
    """Queries, keys and values from outside: apart, keys with values, all three in one, or from a cache."""
    _attend(s, bias=3, scores=5, past=(6, 7))


@rule("DecoderMaskedMultiHeadAttention", domain=MICROSOFT)
def decoder_attention(s: Step) -> None:
    """One step of decoding."""
    if not s.has(1):
        s.refuse("queries, keys and values packed in one input are not followed here")
        return
    _attend(s, bias=10, scores=4, past=(5, 6))


def _attend(s: Step, bias: int, scores: int, past: tuple[int, int]) -> None:
    heads = s.integer("num_heads", 1)
    q = s.forced(s.axes(0))
    stay(s, q[0], q[1])
    if len(q) == 5:  # [batch, time, heads, 3, dim]
        s.pin(q[3], "queries, keys and values")
        head, q_dim, k_dim, v_dim = q[2], q[4], q[4], q[4]
        keys = q[1]
        s.mix("zero", 0, {4: q_dim})
    else:
        head, q_dim = heads_of(s, q[2], heads)
        s.mix("zero", 0, {2: q[2]})
        k_dim, v_dim, keys = _keys_and_values(s, head, heads)
        s.tie(q_dim, k_dim)
    if s.has(bias):
        vector = s.forced(s.axes(bias))[0]
        wide, v_wide = q_dim.sizes[0] * heads, v_dim.sizes[0] * heads
        for part, dim in zip(windows(s, vector, [wide, wide, v_wide]), (q_dim, k_dim, v_dim), strict=True):
            each, its = heads_of(s, part, heads)
            s.tie(each, head)
            s.tie(its, dim)
        s.mix("zero", bias, {0: vector})
    per_head(s, head, scores)
    for slot, dim in zip(past, (k_dim, v_dim), strict=True):
        if s.has(slot):
            cache = s.forced(s.axes(slot))
            stay(s, cache[0], cache[2])
            s.tie(cache[1], head)
            s.tie(cache[3], dim)
    work = float(q[0].sizes[0] * q[1].sizes[0] * keys.sizes[0])
    s.macs(work, [head, q_dim])
    s.macs(work, [head, v_dim])
    s.multiplies([slot for slot in range(3) if s.has(slot)], [head], [q_dim, v_dim], whole=True)
    width = q_dim.sizes[0]

    def follow(cut: "Cut") -> None:
        scale_stays(s, cut, width)
        cut.set_attr(s.index, "num_heads", cut.count(head))

    s.restate([head, q_dim, v_dim], follow)
    s.out([q[0], q[1], packed(s, head, v_dim)])
    _present(s, head, k_dim, v_dim)
    if len(s.node.outputs) > 3 and s.node.outputs[3].name:
        batch, _, rows, columns = s.out_sizes(3)
        s.out([rigid(batch), head, rigid(rows), rigid(columns)], 3)


def _keys_and_values(s: Step, head: Axis, heads: int) -> tuple[Axis, Axis, Axis]:
    """Return the dims of keys and values and the axis of keys, their heads tied."""
    k = s.forced(s.axes(1))
    if len(k) == 5:  # [batch, time, heads, 2, dim]
        stay(s, k[0], k[1])
        s.pin(k[3], "keys and values")
        s.tie(head, k[2])
        return k[4], k[4], k[1]
    v = s.forced(s.axes(2))
    if len(k) == 4:  # a cache, [batch, heads, time, dim]
        for each in (k, v):
            stay(s, each[0], each[2])
            s.tie(head, each[1])
        s.tie(k[3], v[3])
        return k[3], v[3], k[2]
    dims = []
    for each in (k, v):
        stay(s, each[0], each[1])
        its, dim = heads_of(s, each[2], heads)
        s.tie(head, its)
        dims.append(dim)
    return dims[0], dims[1], k[1]


def _present(s: Step, head: Axis, k_dim: Axis, v_dim: Axis) -> None:
    """Hand the caches over, [batch, heads, time, dim]."""
    for output, dim in ((1, k_dim), (2, v_dim)):
        if output < len(s.node.outputs) and s.node.outputs[output].name:
            batch, _, length, _ = s.out_sizes(output)
            s.out([rigid(batch), head, rigid(length, "a cache"), dim], output)


# GroupQueryAttention takes head sizes that are multiples of this.
_LANE = 8


@rule("GroupQueryAttention", domain=MICROSOFT)
def group_query_attention(s: Step) -> None:
    """Every key head serves as many query heads; dims go in blocks of eight, with a rotary table by its columns."""
    heads, shared = s.integer("num_heads", 1), s.integer("kv_num_heads", 1)
    q = s.forced(s.axes(0))
    stay(s, q[0], q[1])
    if s.has(1):
        dim = q[2].sizes[0] // heads
        k, v = s.forced(s.axes(1)), s.forced(s.axes(2))
        stay(s, k[0], k[1], v[0], v[1])
        parts = [q[2], k[2], v[2]]
    else:
        dim = q[2].sizes[0] // (heads + 2 * shared)
        parts = windows(s, q[2], [heads * dim, shared * dim, shared * dim])
    q_head, dims = heads_of(s, parts[0], heads)
    k_head, k_dim = heads_of(s, parts[1], shared)
    v_head, v_dim = heads_of(s, parts[2], shared)
    s.tie(k_head, v_head)
    s.tie(s.digits(q_head, [shared, heads // shared])[0], k_head)
    s.tie(dims, k_dim)
    s.tie(dims, v_dim)
    for slot in (3, 4):
        if s.has(slot):
            cache = s.forced(s.axes(slot))
            stay(s, cache[0], cache[2])
            s.tie(cache[1], k_head)
            s.tie(cache[3], dims)
    _in_lanes(s, dims)
    s.mix("zero", 0, {2: q[2]})
    per_head(s, q_head, 10)
    follows(s, q_head, 11)
    if s.has(14):
        s.pin(dims, "queries and keys are normalised over their dims")
    for slot in (12, 13):
        if s.has(slot) and not is_single(s, slot):
            scale = s.axes(slot)
            s.tie(scale[1], k_head)
            s.tie(scale[3], dims)
    work = float(q[0].sizes[0] * q[1].sizes[0] * _keys(s, q))
    s.macs(2 * work, [q_head, dims])
    s.multiplies([slot for slot in range(3) if s.has(slot)], [q_head, k_head], [dims], whole=True)

    def follow(cut: "Cut") -> None:
        scale_stays(s, cut, dim)
        cut.set_attr(s.index, "num_heads", cut.count(q_head))
        cut.set_attr(s.index, "kv_num_heads", cut.count(k_head))

    s.restate([q_head, k_head, dims], follow)
    s.out([q[0], q[1], packed(s, q_head, dims)])
    _present(s, k_head, dims, dims)


def _keys(s: Step, q: Sequence[Axis]) -> int:
    """Return how many keys a query looks at, in world A."""
    if len(s.node.outputs) > 1 and s.node.outputs[1].name:
        sizes = s.out_sizes(1)
        if len(sizes) == 4 and sizes[2][0] > 0:
            return sizes[2][0]
    return q[1].sizes[0] + (s.sizes(3)[2][0] if s.has(3) else 0)


def _in_lanes(s: Step, dims: Axis) -> None:
    """Let whole blocks of eight dims go; with a rotary table blocks of eight of its columns, each turning two dims."""
    size = dims.sizes[0]
    if not s.integer("do_rotary", 0):
        if size % _LANE:
            s.pin(dims, f"head sizes are multiples of {_LANE}")
        else:
            s.pin(s.digits(dims, [size // _LANE, _LANE])[1], f"head sizes are multiples of {_LANE}")
        return
    tables = [s.forced(s.axes(slot))[1] for slot in (7, 8)]
    for slot in (7, 8):
        stay(s, s.axes(slot)[0])
    if size % (2 * _LANE) or tables[0].sizes[0] * 2 != size:
        for axis in (dims, *tables):
            s.pin(
                axis, f"a rotary table of part of the dims, or not of multiples of {_LANE}, is not followed"
            )
        return
    count = size // (2 * _LANE)
    if s.integer("rotary_interleaved", 0):
        blocks, *others = s.digits(dims, [count, _LANE, 2])
    else:
        half, blocks, lane = s.digits(dims, [2, count, _LANE])
        others = [half, lane]
    for digit in others:
        s.pin(digit, f"head sizes are multiples of {2 * _LANE}")
    for table in tables:
        column, lane = s.digits(table, [count, _LANE])
        s.pin(lane, f"head sizes are multiples of {2 * _LANE}")
        s.tie(column, blocks)
