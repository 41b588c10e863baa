"""Shape arithmetic after a cut: Shape and Size go on reporting the old sizes.

Every number the graph derives from them (heads, the scale of attention, counts for a mean, loop bounds) stays what it
was, so no symbolic solver is needed; only the consumers of a cut axis are restated.
"""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import Axis
from graphrewrite.ir import Array
from graphrewrite.ir.edit import redirect

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut


def freeze(cut: "Cut", node: gs.Node, axes: Sequence[Axis]) -> bool:
    """Make a Shape or Size node of a cut tensor report old sizes; True when nothing reads the node any more."""
    if node.op == "Shape":
        axes = list(axes)[node.attrs.get("start", 0) : node.attrs.get("end", len(axes))]
    if not any(cut.is_cut(axis) for axis in axes):
        return False
    if not all(axis.is_static for axis in axes):
        _correct(cut, node, axes)
        return False
    old = [axis.sizes[0] for axis in axes]
    value = np.asarray(old if node.op == "Shape" else prod(old), dtype=np.int64)
    out = node.outputs[0]
    if id(out) in cut.returned:
        answer(node, value)
        return False
    redirect(cut.graph, out, cut.file(f"{out.name}.frozen", value, node))
    return True


def answer(node: gs.Node, value: Array) -> None:
    """Turn a node into a Constant."""
    node.op = "Constant"
    node.attrs.clear()
    node.inputs.clear()
    node.attrs["value"] = gs.Constant("", value)


def answer_from(node: gs.Node, weight: Array) -> None:
    """Let a Shape or Size of a weight that is about to be cut report what it was."""
    start, end = node.attrs.get("start", 0), node.attrs.get("end", weight.ndim)
    answer(node, np.asarray(weight.shape[start:end] if node.op == "Shape" else weight.size, dtype=np.int64))


def _correct(cut: "Cut", node: gs.Node, axes: Sequence[Axis]) -> None:
    """Some sizes follow the input: correct what the node reports, element by element."""
    out = node.outputs[0]
    raw = gs.Variable(cut.namer.fresh(f"{out.name}.new"))
    node.outputs = [raw]
    steps = _size_steps(cut, axes) if node.op == "Size" else _shape_steps(cut, axes)
    current: gs.Tensor = raw
    for number, (op, value) in enumerate(steps):
        last = number == len(steps) - 1
        result = out if last else gs.Variable(cut.namer.fresh(f"{out.name}.step"))
        cut.append(node, op, [current, cut.file(f"{out.name}.{op.lower()}", value, node)], result)
        current = result


def _size_steps(cut: "Cut", axes: Sequence[Axis]) -> list[tuple[str, Array]]:
    before, after = _counts(cut, axes)
    return [("Mul", np.asarray(before, dtype=np.int64)), ("Div", np.asarray(after, dtype=np.int64))]


def _shape_steps(cut: "Cut", axes: Sequence[Axis]) -> list[tuple[str, Array]]:
    """Replace static cut elements by their old size; a dynamic axis with a cut factor (batch x heads) is scaled."""
    replaced = [cut.is_cut(axis) and axis.is_static for axis in axes]
    keep = np.asarray([0 if r else 1 for r in replaced], dtype=np.int64)
    old = np.asarray(
        [axis.sizes[0] if r else 0 for r, axis in zip(replaced, axes, strict=True)], dtype=np.int64
    )
    steps: list[tuple[str, Array]] = [("Mul", keep), ("Add", old)]
    for place, axis in enumerate(axes):
        if cut.is_cut(axis) and not axis.is_static:
            before, after = _counts(cut, [axis])
            up, down = np.ones(len(axes), dtype=np.int64), np.ones(len(axes), dtype=np.int64)
            up[place], down[place] = before, after
            steps += [("Mul", up), ("Div", down)]
    return steps


def _counts(cut: "Cut", axes: Sequence[Axis]) -> tuple[int, int]:
    """Return the old and the kept number of positions over all labelled factors."""
    loose = [part for axis in axes for part in axis.parts if not part.is_rigid]
    return prod(part.sizes[0] for part in loose), prod(cut.count(part) for part in loose)
