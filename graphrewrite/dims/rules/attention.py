"""Attention as one operator (opset 23): heads and head dims as products of a packed axis, or as axes of their own."""

from math import sqrt
from typing import TYPE_CHECKING

from graphrewrite.dims.axes import Axis, of_rows, outer, rigid
from graphrewrite.dims.sweep import Step, rule

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut


@rule("Attention")
def attention(s: Step) -> None:
    """Queries and keys share head dims; every key head serves a fixed set of query heads."""
    q, k, v = (s.forced(s.axes(slot)) for slot in range(3))
    packed = len(q) == 3
    if packed:
        heads, kv_heads = s.integer("q_num_heads", 0), s.integer("kv_num_heads", 0)
        q_head, q_dim = _split(s, q[2], heads)
        k_head, k_dim = _split(s, k[2], kv_heads)
        v_head, v_dim = _split(s, v[2], kv_heads)
    else:
        (q_head, q_dim), (k_head, k_dim), (v_head, v_dim) = ((t[1], t[3]) for t in (q, k, v))
    for axis in (q[-2], k[-2], v[-2], q[0], k[0], v[0]):
        s.pin(axis, "batch and sequence stay")
    s.tie(q_dim, k_dim)
    s.tie(k_head, v_head)
    ratio = q_head.sizes[0] // k_head.sizes[0]
    if ratio == 1:
        s.tie(q_head, k_head)
    else:
        groups, _ = s.digits(q_head, [k_head.sizes[0], ratio])
        s.tie(groups, k_head)
    if s.has(3):
        mask = s.axes(3)
        if len(mask) >= 3 and mask[-3].sizes != (1, 1):
            s.tie(mask[-3], q_head)
        for axis in (*mask[-2:], *mask[:-3]):
            s.pin(axis, "batch and sequence stay")
    for slot, mine in ((4, k_dim), (5, v_dim)):
        if s.has(slot):
            batch, head, past, its = s.forced(s.axes(slot))
            s.pin(batch, "batch and sequence stay")
            s.pin(past, "batch and sequence stay")
            s.tie(head, k_head)
            s.tie(its, mine)
    s.mix("attention", 0, {i: axis for i, axis in enumerate(q) if i == (2 if packed else 3)})
    keys = k[-2].sizes[0] + (s.sizes(4)[2][0] if s.has(4) else 0)
    length = float(q[-2].sizes[0] * keys * q[0].sizes[0])
    s.macs(length, [q_head, q_dim])
    s.macs(length, [q_head, v_dim])
    s.multiplies(range(3), [q_head, k_head], [q_dim, v_dim], whole=True)
    dim = q_dim.sizes[0]

    def follow(cut: "Cut") -> None:
        if s.attr("scale") is None:  # the default follows the head dim, which is about to shrink
            cut.set_attr(s.index, "scale", 1.0 / sqrt(dim))
        if packed:
            cut.set_attr(s.index, "q_num_heads", cut.count(q_head))
            cut.set_attr(s.index, "kv_num_heads", cut.count(k_head))

    s.restate([q_head, q_dim, k_head, v_dim], follow)
    _more_outputs(s, q_head, k_head, k_dim, v_dim)
    if not packed:
        s.out([q[0], q_head, q[2], v_dim])
        return
    rigid_out = q_head.is_rigid and v_dim.is_rigid
    last = (
        rigid(q_head.sizes[0] * v_dim.sizes[0])
        if rigid_out
        else of_rows(outer([s.rows(q_head), s.rows(v_dim)]))
    )
    s.out([q[0], q[1], last])


def _more_outputs(s: Step, q_head: Axis, k_head: Axis, k_dim: Axis, v_dim: Axis) -> None:
    """Hand over keys and values with what came before them, and the scores [batch, heads, queries, keys]."""
    for output, dim in ((1, k_dim), (2, v_dim)):
        if output < len(s.node.outputs) and s.node.outputs[output].name:
            batch, _, length, _ = s.out_sizes(output)
            s.out([rigid(batch), k_head, rigid(length, "a cache"), dim], output)
    if len(s.node.outputs) > 3 and s.node.outputs[3].name:
        batch, _, queries, keys = s.out_sizes(3)
        s.out([rigid(batch), q_head, rigid(queries), rigid(keys)], 3)


def _split(s: Step, axis: Axis, heads: int) -> tuple[Axis, Axis]:
    head, dim = s.digits(axis, [heads, axis.sizes[0] // heads])
    return head, dim
