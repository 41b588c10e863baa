"""Leaving branches out of sums, and the slow model in which they are replaced by zeros instead."""

import heapq
from collections.abc import Iterable

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model, Namer, ShapeInfo
from graphrewrite.ir.edit import add_constant, drop_unused, redirect, remove_nodes, set_input
from graphrewrite.passes.blocks.find import Block


def without(model: Model, blocks: Iterable[Block]) -> Model:
    """Return a copy of a model without these blocks, and without what only they needed.

    A sum of which one operand is left is that operand; where its result is an output of the model, the node stays as
    an Identity. Names of everything that stays are as they were.
    """
    copy = model.clone()
    nodes = list(copy.graph.nodes)
    index = {id(node): number for number, node in enumerate(nodes)}
    doomed: dict[int, set[int]] = {}
    for block in blocks:
        doomed.setdefault(block.join, set()).add(block.slot)
    replaced: list[gs.Node] = []
    waiting = list(doomed)
    heapq.heapify(waiting)
    while waiting:  # in graph order: a sum within a sum may lose all its operands
        number = heapq.heappop(waiting)
        join, slots = nodes[number], doomed[number]
        kept = [tensor for slot, tensor in enumerate(join.inputs) if slot not in slots]
        if not kept:
            around = join.outputs[0].outputs[0]
            outer = index[id(around)]
            if outer not in doomed:
                heapq.heappush(waiting, outer)
            doomed.setdefault(outer, set()).add(
                next(slot for slot, tensor in enumerate(around.inputs) if tensor is join.outputs[0])
            )
        elif len(kept) > 1 or any(tensor is join.outputs[0] for tensor in copy.graph.outputs):
            join.inputs = kept
            if len(kept) == 1:
                join.op = "Identity"
                join.attrs.clear()
        else:
            redirect(copy.graph, join.outputs[0], kept[0])
            replaced.append(join)
    remove_nodes(copy.graph, replaced)
    drop_unused(copy.graph)
    return copy


def zeroed(model: Model, blocks: Iterable[Block], info: ShapeInfo) -> Model:
    """Return a copy of a model in which what these branches add is replaced by zeros at the sums they enter."""
    copy = model.clone()
    nodes = list(copy.graph.nodes)
    tensors, names = Namer(copy.graph), Namer(copy.graph, nodes=True)
    before: dict[int, list[gs.Node]] = {}
    for block in blocks:
        join = nodes[block.join]
        branch = join.inputs[block.slot]
        zero = np.zeros((), info.dtype(branch.name) or np.float32)
        if model.opset >= 9:
            never = _constant(copy, tensors, f"{block.name}.never", np.zeros((), bool))
            operands = [never, branch, _constant(copy, tensors, f"{block.name}.zero", zero)]
        else:
            operands = [branch, _constant(copy, tensors, f"{block.name}.zero", zero)]
        masked = gs.Variable(tensors.fresh(f"{block.branch}.zeroed"))
        op = "Where" if model.opset >= 9 else "Mul"
        before.setdefault(id(join), []).append(gs.Node(op, names.fresh(masked.name), {}, operands, [masked]))
        set_input(join, block.slot, masked)
    copy.graph.nodes = [each for node in nodes for each in (*before.get(id(node), ()), node)]
    return copy


def _constant(model: Model, names: Namer, stem: str, values: Array) -> gs.Constant:
    return add_constant(model.graph, names.fresh(stem), values)


__all__ = ["without", "zeroed"]
