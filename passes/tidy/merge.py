"""Neighbours of one kind that one node can do: slices, concatenations, clips, pads, a split and its concatenation."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.match import FEW, Draft, RuleSet, rule
from graphrewrite.match.rules import Result
from graphrewrite.passes.tidy import merge_views
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.passes.tidy.identity import hand_on
from graphrewrite.passes.tidy.merge_views import goes, maker_of
from graphrewrite.passes.tidy.reading import (
    integer,
    pad_value,
    pads,
    real,
    single,
    slices,
    source,
    text,
    used_outputs,
)
from graphrewrite.passes.tidy.writing import int64s
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes


def _cuts(user: gs.Node, maker: gs.Node) -> bool:
    return str(user.op) == "Slice" and user.inputs[0] is maker.outputs[0]


@rule("Slice", name="slices merged", reach=2)
def merge_slices(draft: Draft, node: gs.Node) -> Result:
    """Cut along several axes, or twice along one from the front, in one slice."""
    maker = maker_of(draft, node.inputs[0], "Slice")
    if maker is None or draft.opset < 10:
        return False
    users = draft.users(maker.outputs[0])
    if not goes(draft, maker, node, len(users) <= FEW and all(_cuts(user, maker) for user in users)):
        return False
    first, second, rank = slices(draft, maker), slices(draft, node), draft.rank(maker.inputs[0])
    if first is None or second is None or rank is None:
        return False
    merged = {axis % rank: (start, end, step) for axis, start, end, step in first}
    for axis, start, end, step in second:
        present = merged.get(axis % rank)
        if present is None:
            merged[axis % rank] = (start, end, step)
            continue
        low, high, stride = present
        if min(low, start, end) < 0 or stride != 1 or step < 1 or high < 0:
            return False
        merged[axis % rank] = (low + start, min(high, low + end), step)
    order = sorted(merged)
    parts = [[merged[axis][k] for axis in order] for k in range(3)]
    stem = node.outputs[0].name
    inputs = [
        int64s(draft, part, f"{stem}_{what}") for part, what in zip(parts, ("starts", "ends"), strict=False)
    ]
    inputs.append(int64s(draft, order, f"{stem}_axes"))
    if any(step != 1 for step in parts[2]):
        inputs.append(int64s(draft, parts[2], f"{stem}_steps"))
    return draft.replace(node.outputs[0], draft.op("Slice", maker.inputs[0], *inputs, like=node.outputs[0]))


@rule("Concat", name="concatenations merged", reach=2)
def concats(draft: Draft, node: gs.Node) -> Result:
    """Put the parts of an inner concatenation along the same axis into the outer one."""
    rank = draft.rank(node.outputs[0])
    axis = node.attrs.get("axis")
    if not isinstance(axis, int):
        return False
    parts: list[gs.Tensor] = []
    for tensor in node.inputs:
        inner = maker_of(draft, tensor, "Concat")
        other = None if inner is None else inner.attrs.get("axis")
        fits = isinstance(other, int) and (other == axis or (rank is not None and (other - axis) % rank == 0))
        if inner is not None and fits and draft.feeds_only(tensor, node):
            parts.extend(inner.inputs)
        else:
            parts.append(tensor)
    if len(parts) == len(node.inputs):
        return False
    return draft.replace(node.outputs[0], draft.op("Concat", *parts, like=node.outputs[0], axis=axis))


def bounds(draft: Draft, node: gs.Node) -> tuple[float, float] | None:
    """Return the limits of a Clip or Relu, infinite where open; None when they are not known."""
    if node.op == "Relu":
        return 0.0, np.inf
    if draft.opset < 11:
        return real(node, "min", -np.inf), real(node, "max", np.inf)
    found = [-np.inf, np.inf]
    for index in (1, 2):
        tensor = source(node, index)
        if tensor is not None:
            value = single(draft, tensor)
            if value is None:
                return None
            found[index - 1] = value
    return found[0], found[1]


@rule("Clip", "Relu", name="clips merged", reach=2)
def clips(draft: Draft, node: gs.Node) -> Result:
    """Clip once where two limits follow each other; a Relu is a clip at zero."""
    maker = maker_of(draft, node.inputs[0], "Clip", "Relu")
    dtype = draft.dtype(node.outputs[0])
    if maker is None or (maker.op == "Relu" and node.op == "Relu") or dtype is None or dtype.kind != "f":
        return False
    inner, outer = bounds(draft, maker), bounds(draft, node)
    if inner is None or outer is None or inner[0] > inner[1] or outer[0] > outer[1]:
        return False
    low, high = max(inner[0], outer[0]), min(inner[1], outer[1])
    if low > high:
        return False
    if (low, high) == inner:
        return hand_on(draft, node)
    if not draft.feeds_only(maker.outputs[0], node):
        return False
    x, out = maker.inputs[0], node.outputs[0]
    if (low, high) == (0.0, np.inf):
        return draft.replace(out, draft.op("Relu", x, like=out))
    if draft.opset < 11:
        limits = {"min": low, "max": high}
        kept = {name: value for name, value in limits.items() if np.isfinite(value)}
        return draft.replace(out, draft.op("Clip", x, like=out, attrs=kept))
    sides = [
        draft.add_constant(np.asarray(value, dtype=dtype), f"{out.name}_{name}")
        if np.isfinite(value)
        else None
        for name, value in (("min", low), ("max", high))
    ]
    return draft.replace(out, draft.op("Clip", x, *sides, like=out))


@rule("Pad", name="pads merged", reach=2)
def merge_pads(draft: Draft, node: gs.Node) -> Result:
    """Pad once where two paddings with the same number follow each other."""
    maker = maker_of(draft, node.inputs[0], "Pad")
    rank = draft.rank(node.inputs[0])
    if maker is None or rank is None or draft.opset < 11 or not draft.feeds_only(maker.outputs[0], node):
        return False
    if text(maker, "mode", "constant") != "constant" or text(node, "mode", "constant") != "constant":
        return False
    first, second, value = pads(draft, maker, rank), pads(draft, node, rank), pad_value(draft, node)
    if (
        first is None
        or second is None
        or value is None
        or value != pad_value(draft, maker)
        or min(*first, *second) < 0
    ):
        return False
    total = int64s(draft, [a + b for a, b in zip(first, second, strict=True)], f"{node.outputs[0].name}_pads")
    made = draft.op("Pad", maker.inputs[0], total, source(node, 2), like=node.outputs[0], mode="constant")
    return draft.replace(node.outputs[0], made)


@rule("Split", name="split merged with its concatenation", reach=1)
def split_concat(draft: Draft, node: gs.Node) -> Result:
    """Drop a split whose parts are put together again at once, in order."""
    chosen = used_outputs(draft, node)
    if len(chosen) != len(node.outputs) or not chosen:
        return False
    user = draft.sole_user(node.outputs[0])
    if user is None or user.op != "Concat" or len(user.inputs) != len(node.outputs):
        return False
    rank = draft.rank(node.inputs[0])
    if rank is None or (integer(node, "axis", 0) - integer(user, "axis", 0)) % rank:
        return False
    if any(a is not b for a, b in zip(user.inputs, node.outputs, strict=True)):
        return False
    return hand_on(draft, user, node.inputs[0])


RULES = merge_views.RULES + RuleSet.of(merge_slices, concats, clips, merge_pads, split_concat)


@passes.register("merge_neighbours")
@dataclass(frozen=True)
class MergeNeighbours:
    """Let one node do what two neighbours of a kind do: views, transpositions, casts, slices, clips, pads."""

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        """Merge them."""
        return tidy(model, lambda: RULES)
