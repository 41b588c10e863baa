"""Leaving branches out of sums and concatenations, and the slow model in which nothing is seen of them instead."""

import heapq
from collections.abc import Iterable

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims import reference
from graphrewrite.dims.emptied import shrink_without
from graphrewrite.ir import Array, Model, Namer, ShapeInfo
from graphrewrite.ir.edit import add_constant, drop_unused, redirect, remove_nodes, set_input
from graphrewrite.passes.blocks.block import Block, Blocks
from graphrewrite.passes.blocks.joins import is_plain, without_operand, zero_of
from graphrewrite.passes.blocks.ledger import Readers


def without(found: Blocks, blocks: Iterable[Block]) -> Model:
    """Return a copy of the analysed model without these blocks, and without what only they needed.

    A sum of which one operand is left is that operand; where its result is an output of the model, the node stays as
    an Identity. A concatenation loses the operand, and its readers the channels. Names of everything that stays are as
    they were.
    """
    chosen = list(blocks)
    dead = None if found.width is None else found.width.labels(chosen)
    if dead is None or found.width is None:
        copy = found.analysis.model.clone()
        return _without_operands(copy, list(copy.graph.nodes), chosen)
    readers = Readers(found.flow)
    for block in chosen:
        readers.cut(block.cuts)
    gone = np.flatnonzero(~readers.alive()[: len(found.flow.nodes)]).tolist()
    empty, _ = found.width.emptiness.of(dead)
    cut = shrink_without(found.analysis, dead, gone, empty)
    # A sum that went with a branch around it has nothing left to lose.
    left = [block for block in chosen if block.labels is None and block.join not in set(gone)]
    return _without_operands(cut.model, cut.nodes, left)


def _without_operands(copy: Model, nodes: list[gs.Node], blocks: Iterable[Block]) -> Model:
    """Take the operands of sums away, in place; `nodes` are those the blocks name."""
    index = {id(node): number for number, node in enumerate(nodes)}
    doomed: dict[int, set[int]] = {}
    for block in blocks:
        doomed.setdefault(block.join, set()).add(block.slot)
    replaced: list[gs.Node] = []
    before: dict[int, list[gs.Node]] = {}
    waiting = list(doomed)
    heapq.heapify(waiting)
    while waiting:  # in graph order: a sum within a sum may lose all its operands
        number = heapq.heappop(waiting)
        join, slots = nodes[number], doomed[number]
        if not is_plain(join):
            if without_operand(
                copy, join, next(iter(slots)), before
            ):  # the other is what it is computed from
                replaced.append(join)
            continue
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
    copy.graph.nodes = [each for node in copy.graph.nodes for each in (*before.get(id(node), ()), node)]
    remove_nodes(copy.graph, replaced)
    drop_unused(copy.graph)
    return copy


def masked(found: Blocks, blocks: Iterable[Block]) -> Model:
    """Return a copy of the analysed model in which nothing is seen of these blocks.

    What a branch adds is replaced by zeros at the sum it enters; the channels it would give to a concatenation are
    masked wherever channels mix (see `graphrewrite.dims.reference`).
    """
    chosen = list(blocks)
    dead = None if found.width is None else found.width.labels(chosen)
    if dead is None:
        copy = found.analysis.model.clone()
        nodes = list(copy.graph.nodes)
    else:
        copy, nodes = reference(found.analysis, dead)
    return _zeroed(copy, nodes, [block for block in chosen if block.labels is None], found.analysis.info)


def _zeroed(copy: Model, nodes: list[gs.Node], blocks: Iterable[Block], info: ShapeInfo) -> Model:
    """Replace what branches add by zeros, in place; `nodes` are those the blocks name."""
    tensors, names = Namer(copy.graph), Namer(copy.graph, nodes=True)
    made = {tensor.name: tensor for node in copy.graph.nodes for tensor in node.outputs}
    behind: dict[int, list[gs.Node]] = {}
    for block in blocks:
        branch, readers = made[block.branch], list(made[block.branch].outputs)
        zero = np.zeros((), info.dtype(block.branch) or np.float32)
        filler = zero_of(nodes[block.join], block.slot) or _constant(
            copy, tensors, f"{block.name}.zero", zero
        )
        if copy.opset >= 9:
            never = _constant(copy, tensors, f"{block.name}.never", np.zeros((), bool))
            op, operands = "Where", [never, branch, filler]
        else:
            op, operands = "Mul", [branch, filler]
        hidden = gs.Variable(tensors.fresh(f"{block.branch}.zeroed"))
        maker = branch.inputs[0]
        behind.setdefault(id(maker), []).append(gs.Node(op, names.fresh(hidden.name), {}, operands, [hidden]))
        # Whoever reads it does so for the sum it enters: nothing else did in the original.
        for reader in readers:
            for slot, tensor in enumerate(reader.inputs):
                if tensor is branch:
                    set_input(reader, slot, hidden)
    copy.graph.nodes = [each for node in copy.graph.nodes for each in (node, *behind.get(id(node), ()))]
    return copy


def _constant(model: Model, names: Namer, stem: str, values: Array) -> gs.Constant:
    return add_constant(model.graph, names.fresh(stem), values)


__all__ = ["masked", "without"]
