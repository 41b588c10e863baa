"""What keeps a model from becoming smaller, in a sentence: for budgets that cannot be met."""

from collections.abc import Collection

from graphrewrite.dims.explain import explain
from graphrewrite.errors import GraphRewriteError
from graphrewrite.ir import Model

# How many reasons the sentence names; `inspect --groups` has them all.
_NAMED = 3
# Layers with less than this share of the MACs hold nothing back that anybody would miss.
_LEAST = 0.01


def held_back(model: Model, may_change: Collection[str] = ()) -> str:
    """Return what to add to an error: what holds back most of the MACs, largest first, and operators not known here.

    Empty when there is neither. `model` has its local functions inlined. The shares overlap: a layer between two
    pinned axes is in both.
    """
    try:
        found = explain(model, may_change=may_change)
    except GraphRewriteError:  # the budget's own error is the one to show
        return ""
    worth = sorted((o for o in found.obstacles if o.macs > _LEAST * found.macs), key=lambda o: -o.macs)
    parts = [
        f"{o.reason} (in layers with {o.macs / max(found.macs, 1):.0%} of the MACs)" for o in worth[:_NAMED]
    ]
    if len(worth) > _NAMED:
        parts.append(f"and {len(worth) - _NAMED} more")
    unknown = [
        f"{op} ({len(nodes)} node{'s' * (len(nodes) > 1)})"
        for op, nodes in found.refused.items()
        if " (" not in op
    ]
    text = f"; what holds it back: {'; '.join(parts)}" if parts else ""
    return text + (f"; operators not known here: {', '.join(unknown)}" if unknown else "")
