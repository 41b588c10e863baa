"""Neighbours of one kind that one node can do: views, transpositions, casts, slices, concatenations, clips, pads."""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir.symbols import Dim
from graphrewrite.match import FEW, Draft, RuleSet, is_default_domain, rule
from graphrewrite.match.rules import Result
from graphrewrite.passes.tidy.identity import hand_on
from graphrewrite.passes.tidy.reading import (
    axes,
    given_axes,
    integer,
    pad_value,
    pads,
    permutation,
    real,
    same_sizes,
    single,
    slices,
    source,
    text,
    used_outputs,
)
from graphrewrite.passes.tidy.writing import int64s, reshape, reshape_target, with_axes

_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


def maker_of(draft: Draft, tensor: gs.Tensor, *op_types: str) -> gs.Node | None:
    """Return the node that writes a tensor as its first output, if it is of one of these types."""
    maker = draft.producer(tensor)
    if (
        maker is None
        or maker.op not in op_types
        or not is_default_domain(maker)
        or maker.outputs[0] is not tensor
    ):
        return None
    return maker


def is_view(draft: Draft, node: gs.Node) -> bool:
    """Tell whether a node only renames positions: the elements stay in their order."""
    if not is_default_domain(node):
        return False
    return node.op in _VIEWS or (node.op == "Transpose" and _keeps_order(draft, node))


def _keeps_order(draft: Draft, node: gs.Node) -> bool:
    """Tell whether a transposition only moves axes of length one."""
    shape, perm = draft.shape(node.inputs[0]), permutation(draft, node)
    if shape is None or perm is None:
        return False
    moved = [axis for axis in perm if not (isinstance(shape[axis], int) and shape[axis] == 1)]
    return moved == sorted(moved)


def _goes(draft: Draft, maker: gs.Node, user: gs.Node, alike: bool) -> bool:
    """Tell whether `maker` will have no reader left once `user`, and others of its kind, read past it."""
    tensor = maker.outputs[0]
    return draft.feeds_only(tensor, user) or (alike and not draft.is_output(tensor))


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", name="views merged", reach=2)
def views(draft: Draft, node: gs.Node) -> Result:
    """Let one Reshape do what two views in a row do; nothing at all where the shape comes back."""
    if not is_view(draft, node):
        return False
    maker = draft.producer(node.inputs[0])
    if maker is None or not is_view(draft, maker):
        return False
    x = maker.inputs[0]
    before, after = draft.shape(x), draft.shape(node.outputs[0])
    if before is None or after is None:
        return False
    if same_sizes(before, after):
        return hand_on(draft, node, x)
    users = draft.users(maker.outputs[0])
    if not _goes(draft, maker, node, len(users) <= FEW and all(is_view(draft, user) for user in users)):
        return False
    merged = _merged_axes(draft, maker, node, before, after)
    if merged is not None:
        return draft.replace(node.outputs[0], merged)
    target = reshape_target(before, after)
    return target is not None and draft.replace(node.outputs[0], reshape(draft, x, target, node.outputs[0]))


def _merged_axes(
    draft: Draft, first: gs.Node, second: gs.Node, before: tuple[Dim, ...], after: tuple[Dim, ...]
) -> gs.Tensor | None:
    """Return one Squeeze or Unsqueeze in place of two, None when they are of different kinds."""
    if first.op != second.op or first.op not in ("Squeeze", "Unsqueeze"):
        return None
    inserts = first.op == "Unsqueeze"
    middle = len(before) + (len(after) - len(before)) // 2
    rank = draft.rank(first.outputs[0])
    middle = middle if rank is None else rank
    one = _axes_or_ones(draft, first, before, middle if inserts else len(before))
    two = _axes_or_ones(draft, second, draft.shape(first.outputs[0]), len(after) if inserts else middle)
    if one is None or two is None:
        return None
    if inserts:
        kept = [axis for axis in range(len(after)) if axis not in two]
        both = sorted([*two, *(kept[axis] for axis in one)])
    else:
        kept = [axis for axis in range(len(before)) if axis not in one]
        both = sorted([*one, *(kept[axis] for axis in two)])
    return with_axes(draft, first.op, first.inputs[0], both, second.outputs[0])


def _axes_or_ones(draft: Draft, node: gs.Node, shape: tuple[Dim, ...] | None, rank: int) -> list[int] | None:
    if node.op == "Squeeze" and not given_axes(node):
        return (
            None
            if shape is None
            else [a for a, size in enumerate(shape) if isinstance(size, int) and size == 1]
        )
    return axes(draft, node, rank)


@rule("Transpose", name="transpositions merged", reach=2)
def transposes(draft: Draft, node: gs.Node) -> Result:
    """Let one transposition do what two in a row do, none where they undo each other."""
    maker = maker_of(draft, node.inputs[0], "Transpose")
    if maker is None:
        return False
    first, second = permutation(draft, maker), permutation(draft, node)
    if first is None or second is None:
        return False
    both = [first[axis] for axis in second]
    if both == sorted(both):
        return hand_on(draft, node, maker.inputs[0])
    users = draft.users(maker.outputs[0])
    if not _goes(draft, maker, node, len(users) <= FEW and all(user.op == "Transpose" for user in users)):
        return False
    return draft.replace(
        node.outputs[0], draft.op("Transpose", maker.inputs[0], like=node.outputs[0], perm=both)
    )


# Casts that lose nothing: from -> what holds every value of it.
_HOLDS: dict[str, frozenset[str]] = {
    "bool": frozenset(
        [
            "uint8",
            "int8",
            "uint16",
            "int16",
            "uint32",
            "int32",
            "uint64",
            "int64",
            "float16",
            "float32",
            "float64",
            "bfloat16",
        ]
    ),
    "uint8": frozenset(
        ["uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]
    ),
    "int8": frozenset(["int16", "int32", "int64", "float16", "float32", "float64"]),
    "uint16": frozenset(["uint32", "int32", "uint64", "int64", "float32", "float64"]),
    "int16": frozenset(["int32", "int64", "float32", "float64"]),
    "uint32": frozenset(["uint64", "int64", "float64"]),
    "int32": frozenset(["int64", "float64"]),
    "float16": frozenset(["float32", "float64"]),
    "bfloat16": frozenset(["float32", "float64"]),
    "float32": frozenset(["float64"]),
}


@rule("Cast", name="casts merged", reach=2)
def casts(draft: Draft, node: gs.Node) -> Result:
    """Cast in one step where the step between loses nothing."""
    maker = maker_of(draft, node.inputs[0], "Cast")
    if maker is None:
        return False
    x = maker.inputs[0]
    start, middle, end = draft.dtype(x), draft.dtype(node.inputs[0]), draft.dtype(node.outputs[0])
    if start is None or middle is None or middle.name not in _HOLDS.get(start.name, ()):
        return False
    if start == end:
        return hand_on(draft, node, x)
    if not draft.feeds_only(maker.outputs[0], node):
        return False
    return draft.replace(node.outputs[0], draft.op("Cast", x, like=node.outputs[0], attrs=node.attrs))


@rule("Squeeze", "Unsqueeze", "Reshape", "Flatten", name="reduction merged with a view", reach=2)
def reductions(draft: Draft, node: gs.Node) -> Result:
    """Let a reduction keep or drop its axes itself."""
    maker = draft.producer(node.inputs[0])
    if (
        maker is None
        or not (maker.op.startswith("Reduce") or maker.op in ("ArgMax", "ArgMin"))
        or maker.domain
    ):
        return False
    before, after = draft.shape(maker.inputs[0]), draft.shape(node.outputs[0])
    if before is None or after is None or not draft.feeds_only(maker.outputs[0], node):
        return False
    if maker.op in ("ArgMax", "ArgMin"):
        chosen: list[int] | None = [integer(maker, "axis", 0) % len(before)]
    else:
        chosen = axes(draft, maker, len(before))
        if chosen is None and not given_axes(maker) and not integer(maker, "noop_with_empty_axes", 0):
            chosen = list(range(len(before)))
    if not chosen:
        return False
    keeps = not integer(maker, "keepdims", 1)
    wanted = tuple(1 if a in chosen else size for a, size in enumerate(before) if keeps or a not in chosen)
    if not same_sizes(wanted, after):
        return False
    made = draft.op(
        maker.op, *maker.inputs, like=node.outputs[0], attrs={**maker.attrs, "keepdims": int(keeps)}
    )
    return draft.replace(node.outputs[0], made)


def _cuts(user: gs.Node, maker: gs.Node) -> bool:
    return str(user.op) == "Slice" and user.inputs[0] is maker.outputs[0]


@rule("Slice", name="slices merged", reach=2)
def merge_slices(draft: Draft, node: gs.Node) -> Result:
    """Cut along several axes, or twice along one from the front, in one slice."""
    maker = maker_of(draft, node.inputs[0], "Slice")
    if maker is None or draft.opset < 10:
        return False
    users = draft.users(maker.outputs[0])
    if not _goes(draft, maker, node, len(users) <= FEW and all(_cuts(user, maker) for user in users)):
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


@rule("Unsqueeze", "Reshape", name="single index kept as an axis", reach=2)
def gather_unsqueeze(draft: Draft, node: gs.Node) -> Result:
    """Gather with an index vector of length one instead of gathering one element and putting the axis back."""
    maker = maker_of(draft, node.inputs[0], "Gather")
    if maker is None or not draft.feeds_only(maker.outputs[0], node):
        return False
    before, after, axis = (
        draft.shape(maker.inputs[0]),
        draft.shape(node.outputs[0]),
        integer(maker, "axis", 0),
    )
    index = draft.constant(maker.inputs[1])
    if before is None or after is None or index is None or index.ndim:
        return False
    axis %= len(before)
    if not same_sizes(tuple(1 if a == axis else size for a, size in enumerate(before)), after):
        return False
    indices = draft.add_constant(index.reshape(1), f"{maker.inputs[1].name}_vector")
    return draft.replace(
        node.outputs[0], draft.op("Gather", maker.inputs[0], indices, like=node.outputs[0], axis=axis)
    )


@rule("Squeeze", "Reshape", name="single index taken directly", reach=2)
def slice_squeeze(draft: Draft, node: gs.Node) -> Result:
    """Gather one element instead of slicing it out, or gathering a vector of one, and dropping the axis."""
    maker = maker_of(draft, node.inputs[0], "Slice", "Gather")
    if maker is None or not draft.feeds_only(maker.outputs[0], node):
        return False
    before, after = draft.shape(maker.inputs[0]), draft.shape(node.outputs[0])
    if before is None or after is None:
        return False
    if maker.op == "Slice":
        parts = slices(draft, maker)
        if parts is None or len(parts) != 1:
            return False
        axis, start, end, step = parts[0]
        if (step != 1 or end - start != 1 or start == -1) and not (
            start == -1 and end > 1 << 30 and step == 1
        ):
            return False
        index = start
        size = before[axis % len(before)]
        # Slice clips what lies outside, Gather refuses it.
        if not isinstance(size, int) or not -size <= index < size:
            return False
    else:
        axis = integer(maker, "axis", 0)
        values = draft.constant(maker.inputs[1])
        if values is None or values.shape != (1,):
            return False
        index = int(values[0])
    axis %= len(before)
    if not same_sizes(tuple(size for a, size in enumerate(before) if a != axis), after):
        return False
    scalar = draft.add_constant(np.asarray(index, dtype=np.int64), f"{node.outputs[0].name}_index")
    return draft.replace(
        node.outputs[0], draft.op("Gather", maker.inputs[0], scalar, like=node.outputs[0], axis=axis)
    )


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


RULES = RuleSet.of(
    views,
    transposes,
    casts,
    reductions,
    merge_slices,
    concats,
    clips,
    gather_unsqueeze,
    slice_squeeze,
    merge_pads,
    split_concat,
)
