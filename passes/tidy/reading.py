"""What a node says, in one form for all operator sets: several attributes became inputs over the years."""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array
from graphrewrite.ir.symbols import Dim
from graphrewrite.match import Draft

INT64_MAX = (1 << 63) - 1


def source(node: gs.Node, index: int) -> gs.Tensor | None:
    """Return the `index`-th input, None when it is left out."""
    if index >= len(node.inputs) or node.inputs[index].is_empty():
        return None
    tensor: gs.Tensor = node.inputs[index]
    return tensor


def used_outputs(draft: Draft, node: gs.Node) -> list[int]:
    """Return the positions of outputs that something reads."""
    return [i for i, out in enumerate(node.outputs) if not out.is_empty() and draft.use_count(out)]


def integer(node: gs.Node, name: str, default: int) -> int:
    """Return an integer attribute."""
    value = node.attrs.get(name, default)
    return int(value) if isinstance(value, (int, np.integer)) else default


def real(node: gs.Node, name: str, default: float) -> float:
    """Return a float attribute."""
    value = node.attrs.get(name, default)
    return float(value) if isinstance(value, (int, float)) else default


def text(node: gs.Node, name: str, default: str) -> str:
    """Return a string attribute."""
    value = node.attrs.get(name, default)
    return value if isinstance(value, str) else default


def integers(draft: Draft, node: gs.Node, name: str, index: int) -> list[int] | None:
    """Return integers given as attribute `name` or as input `index`; None when absent in both or not known."""
    value = node.attrs.get(name)
    if isinstance(value, list):
        return [int(item) for item in value]
    tensor = source(node, index)
    return None if tensor is None else draft.integers(tensor)


def axes(draft: Draft, node: gs.Node, rank: int, index: int = 1) -> list[int] | None:
    """Return the axes of Squeeze, Unsqueeze and reductions, from the front and sorted; None when not given.

    For a reduction an empty list means all axes, or none where it says so.
    """
    found = integers(draft, node, "axes", index)
    if found == []:
        if not node.op.startswith("Reduce"):
            return None
        return [] if integer(node, "noop_with_empty_axes", 0) else list(range(rank))
    return None if found is None else sorted(axis % rank if rank else 0 for axis in found)


def given_axes(node: gs.Node, index: int = 1) -> bool:
    """Tell whether axes are given at all (known or not)."""
    return "axes" in node.attrs or source(node, index) is not None


def permutation(draft: Draft, node: gs.Node) -> list[int] | None:
    """Return the permutation of a Transpose; reversed axes when it has none."""
    perm = node.attrs.get("perm")
    if isinstance(perm, list):
        return [int(axis) for axis in perm]
    rank = draft.rank(node.inputs[0])
    return None if rank is None else list(reversed(range(rank)))


def slices(draft: Draft, node: gs.Node) -> list[tuple[int, int, int, int]] | None:
    """Return what a Slice does as (axis, start, end, step) per axis, axes as written; None when not known."""
    starts, ends = integers(draft, node, "starts", 1), integers(draft, node, "ends", 2)
    if starts is None or ends is None:
        return None
    chosen = integers(draft, node, "axes", 3)
    if chosen is None:
        if "axes" in node.attrs or source(node, 3) is not None:
            return None
        chosen = list(range(len(starts)))
    steps = integers(draft, node, "steps", 4) if source(node, 4) is not None else [1] * len(starts)
    if steps is None or not len(starts) == len(ends) == len(chosen) == len(steps):
        return None
    return list(zip(chosen, starts, ends, steps, strict=True))


def pads(draft: Draft, node: gs.Node, rank: int) -> list[int] | None:
    """Return the pads of a Pad node for all axes, begins then ends; None when not known."""
    found = integers(draft, node, "pads", 1)
    if found is None:
        return None
    chosen = draft.integers(node.inputs[3]) if source(node, 3) is not None else list(range(rank))
    if chosen is None or len(found) != 2 * len(chosen):
        return None
    whole = [0] * (2 * rank)
    for position, axis in enumerate(chosen):
        whole[axis % rank] = found[position]
        whole[axis % rank + rank] = found[position + len(chosen)]
    return whole


def pad_value(draft: Draft, node: gs.Node) -> float | None:
    """Return what a Pad fills with, None when not known."""
    if "value" in node.attrs:
        return real(node, "value", 0.0)
    tensor = source(node, 2)
    if tensor is None:
        return 0.0
    return single(draft, tensor)


def single(draft: Draft, tensor: gs.Tensor) -> float | None:
    """Return the number of a constant with one element."""
    if not draft.is_constant(tensor) or draft.shape(tensor) is None:
        return None
    values = draft.constant(tensor)
    if values is None or values.size != 1 or values.dtype.kind not in "fiub":
        return None
    return float(values.reshape(-1)[0])


def uniform(values: Array) -> float | None:
    """Return the number all elements of an array are equal to, None when they differ."""
    if values.size == 0 or values.dtype.kind not in "fiub":
        return None
    first = values.reshape(-1)[0]
    if values.size > 1 and (values.reshape(-1)[-1] != first or np.any(values != first)):
        return None
    return float(first)


def same_sizes(a: tuple[Dim, ...] | None, b: tuple[Dim, ...] | None) -> bool:
    """Tell whether two shapes are known and certainly equal (equal symbolic sizes are one object)."""
    return (
        a is not None
        and b is not None
        and len(a) == len(b)
        and all(x is y or x == y for x, y in zip(a, b, strict=True))
    )


def all_ints(shape: tuple[Dim, ...] | None) -> tuple[int, ...] | None:
    """Return a shape whose sizes are all numbers, None for others."""
    if shape is None or not all(isinstance(size, int) for size in shape):
        return None
    return tuple(int(size) for size in shape)  # type: ignore[arg-type]


def bytes_of(draft: Draft, tensor: gs.Tensor) -> int | None:
    """Return the bytes a tensor takes, None when its size is not a number."""
    sizes, dtype = all_ints(draft.shape(tensor)), draft.dtype(tensor)
    return None if sizes is None or dtype is None else int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize


def ends_gelu(draft: Draft, node: gs.Node) -> bool:
    """Tell whether a node is the half at the end of a Gelu written out: runtimes know it by all of its parts."""
    for side, tensor in enumerate(node.inputs):
        product = draft.producer(tensor)
        if node.op != "Mul" or product is None or product.op != "Mul":
            continue
        if single(draft, node.inputs[1 - side]) != 0.5:
            continue
        sums = [maker for factor in product.inputs if (maker := draft.producer(factor)) is not None]
        inner = [draft.producer(each) for made in sums if made.op == "Add" for each in made.inputs]
        if any(maker is not None and maker.op in ("Erf", "Tanh") for maker in inner):
            return True
    return False
