"""Letting declared shapes follow a cut: those of intermediate tensors, of what bodies take, of inputs and outputs."""

from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from graphrewrite.ir.declared import forget_item_sizes

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut


def redeclare(cut: "Cut") -> None:
    """Bring every declared shape up to date."""
    _tensors(cut)
    _ports(cut)


def _tensors(cut: "Cut") -> None:
    """Let declared shapes of intermediate tensors, and of what bodies take, follow the cut."""
    outputs = {id(tensor) for tensor in cut.graph.outputs}
    for index, node in enumerate(cut.nodes):
        shuffled = cut.analysis.bypassed.get(index)
        if shuffled is not None and cut.is_cut(shuffled):
            continue
        for tensor in cut.made_by(node):
            if id(tensor) not in outputs:
                _redeclare(cut, tensor)
    for body in cut.graphs[1:]:
        for tensor in body.inputs:
            _redeclare(cut, tensor)


def _ports(cut: "Cut") -> None:
    """Let the declared shapes of graph inputs and outputs that may change follow the cut."""
    for tensor in (*cut.graph.inputs, *cut.graph.outputs):
        if tensor.name not in cut.analysis.may_change or tensor.name in cut.ports:
            continue
        for number, axis in enumerate(cut.analysis.env.get(tensor.name) or ()):
            kept = cut.kept(axis) if axis.is_static else None
            if kept is None:
                continue
            cut.ports.setdefault(tensor.name, {})[number] = kept
            if tensor.shape is not None and isinstance(tensor.shape[number], int):
                tensor.shape = [*tensor.shape[:number], len(kept), *tensor.shape[number + 1 :]]


def _redeclare(cut: "Cut", tensor: gs.Tensor) -> None:
    if any(
        cut.is_cut(axis) for axes in cut.analysis.items(tensor.name) for axis in axes if not axis.is_rigid
    ):
        forget_item_sizes(tensor)
    if not isinstance(tensor, gs.Variable) or tensor.shape is None:
        return
    axes = cut.analysis.ragged.get(tensor.name) or cut.analysis.env.get(tensor.name)
    if axes is None or len(axes) != len(tensor.shape):
        tensor.shape = None if axes is None else tensor.shape
        return
    if any(cut.is_cut(axis) for axis in axes if not axis.is_rigid):
        tensor.shape = [
            cut.count(axis) if axis.is_static and cut.is_cut(axis) else None if cut.is_cut(axis) else old
            for axis, old in zip(axes, tensor.shape, strict=True)
        ]
