"""Rotary embeddings as one operator: of onnxruntime, and of the standard since opset 23."""

from typing import TYPE_CHECKING

from graphrewrite.dims.rules.contrib import MICROSOFT
from graphrewrite.dims.rules.fused_attention import heads_of, stay, windows
from graphrewrite.dims.sweep import Step, rule

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut


@rule("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding(s: Step) -> None:
    """Pairs of dims turn by an angle from a table; its places come before it."""
    turn(s, (2, 3))


@rule("RotaryEmbedding")
def standard_rotary_embedding(s: Step) -> None:
    """The same since opset 23; places come last, and without them the table has a row per sample and step."""
    turn(s, (1, 2))


def turn(s: Step, slots: tuple[int, int]) -> None:
    """Tie pairs of dims with the columns of both tables; dims behind the table's width pass."""
    x = s.forced(s.axes(0))
    tables = []
    for slot in slots:
        *others, columns = s.forced(s.axes(slot))
        stay(s, *others)
        tables.append(columns)
    s.tie(tables[0], tables[1])
    width = tables[0].sizes[0]
    partial = s.integer("rotary_embedding_dim", 0)
    heads = s.integer("num_heads", 0)
    if len(x) == 4:
        head, dim = x[1], x[3]
    else:
        heads = heads or x[2].sizes[0] // (2 * width)
        head, dim = heads_of(s, x[2], heads)
    stay(s, x[0], x[-2])
    turned, *rest = windows(s, dim, [2 * width, dim.sizes[0] - 2 * width] if partial else [2 * width])
    first = bool(s.integer("interleaved", 0))
    pair = s.digits(turned, [width, 2] if first else [2, width])
    s.pin(pair[1 if first else 0], "two dims turn together")
    s.tie(pair[0 if first else 1], tables[0])

    def follow(cut: "Cut") -> None:
        if partial:
            cut.set_attr(s.index, "rotary_embedding_dim", cut.count(turned))
        if heads and "num_heads" in s.node.attrs:
            cut.set_attr(s.index, "num_heads", cut.count(head))

    s.restate([head, dim], follow)
    s.out(x)
