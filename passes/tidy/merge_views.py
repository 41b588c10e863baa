"""Neighbours that only rename positions or types: views, transpositions, casts, and reductions with views."""

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
    permutation,
    same_sizes,
    slices,
)
from graphrewrite.passes.tidy.writing import reshape, reshape_target, with_axes

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


def goes(draft: Draft, maker: gs.Node, user: gs.Node, alike: bool) -> bool:
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
    if not goes(draft, maker, node, len(users) <= FEW and all(is_view(draft, user) for user in users)):
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
    if not goes(draft, maker, node, len(users) <= FEW and all(user.op == "Transpose" for user in users)):
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


RULES = RuleSet.of(
    views,
    transposes,
    casts,
    reductions,
    gather_unsqueeze,
    slice_squeeze,
)
