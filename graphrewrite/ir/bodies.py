"""Bodies made ready for a sweep by name: unique names, no branch that is never taken, no constant returned bare."""

from collections.abc import Iterable

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphrewrite.ir import garbage
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import Namer, all_graphs, detach, subgraphs_of
from graphrewrite.ir.model import Model
from graphrewrite.ir.shapes import ShapeInfo
from graphrewrite.ir.values import Array, constant_value


def has_bodies(graph: gs.Graph) -> bool:
    """Tell whether any node of a graph has graphs inside."""
    return any(True for node in graph.nodes for _ in subgraphs_of(node))


@garbage.paused()
def uniquely_named(model: Model) -> Model:
    """Return a copy in which no two tensors share a name, or the model itself when none do.

    Bodies that do not see each other may use the same names in ONNX. The first to use a name keeps it, outer graphs
    before inner ones.
    """
    if not has_bodies(model.graph) or not _clashes(model.graph):
        return model
    copy = model.clone()
    namer = Namer(copy.graph)
    taken: set[str] = set()
    for graph in all_graphs(copy.graph):
        renamed = False
        for tensor in own_tensors(graph):
            if tensor.name in taken:
                tensor.name = namer.fresh(tensor.name)
                renamed = True
            taken.add(tensor.name)
        if renamed:
            graph.initializers = {constant.name: constant for constant in graph.initializers.values()}
            graph.shell = without_declarations(graph.shell)
    return copy


@garbage.paused()
def returned_by_nodes(model: Model) -> Model:
    """Return a copy in which an Identity hands over each constant that a body returns, or the model itself.

    A constant is then read by a node like any other weight, so it can lose positions.
    """
    if not any(_constants_returned(body) for body in list(all_graphs(model.graph))[1:]):
        return model
    copy = model.clone()
    namer = Namer(copy.graph)
    for body in list(all_graphs(copy.graph))[1:]:
        for place, constant, values in _constants_returned(body):
            name = namer.fresh(f"{constant.name}.returned")
            out = gs.Variable(name, values.dtype, list(values.shape))
            body.nodes.append(gs.Node("Identity", name, {}, [constant], [out]))
            body.outputs[place] = out
    return copy


@garbage.paused()
def decided(model: Model, info: ShapeInfo) -> Model:
    """Return a copy in which every If whose condition is the same for all inputs is the branch it takes.

    Names must be unique (see `uniquely_named`). Without such an If, `model` itself is returned.
    """
    if not any(_choice(node, info) is not None for graph in all_graphs(model.graph) for node in graph.nodes):
        return model
    copy = model.clone()
    namer = Namer(copy.graph)
    waiting = [copy.graph]
    while waiting:
        graph = waiting.pop()
        stack = graph.nodes[::-1]
        kept: list[gs.Node] = []
        gone: list[gs.Node] = []
        while stack:
            node = stack.pop()
            branch = _choice(node, info)
            if branch is None:
                kept.append(node)
                waiting.extend(subgraphs_of(node))
                continue
            stack.extend(reversed(_opened(node, branch, namer)))
            graph.initializers.update(branch.initializers)
            gone.append(node)
            for other in subgraphs_of(node):
                if other is not branch:
                    gone.extend(other.nodes)
            node.attrs.clear()
        graph.nodes = kept
        detach(gone)
    return copy


def _choice(node: gs.Node, info: ShapeInfo) -> gs.Graph | None:
    """Return the branch an If takes whatever the inputs are, None when that is open."""
    if node.op != "If" or domain_name(node.domain) or not len(node.inputs):
        return None
    condition = info.value(node.inputs[0].name)
    if condition is None or condition.dtype != np.bool_ or condition.size != 1:
        return None
    branch = node.attrs.get("then_branch" if condition.reshape(-1)[0] else "else_branch")
    return branch if isinstance(branch, gs.Graph) and len(branch.outputs) == len(node.outputs) else None


def _opened(node: gs.Node, branch: gs.Graph, namer: Namer) -> list[gs.Node]:
    """Return the nodes of a branch, and one more for each output of the If that hands on what the branch has."""
    joints = [
        gs.Node("Identity", namer.fresh(f"{out.name}.taken"), {}, [inner], [out])
        for out, inner in zip(list(node.outputs), branch.outputs, strict=True)
        if out.name
    ]
    for joint in joints:  # the If itself goes: each output has one producer
        out = joint.outputs[0]
        list.__setitem__(out.inputs, slice(None), [joint])
    return [*branch.nodes, *joints]


def _constants_returned(body: gs.Graph) -> list[tuple[int, gs.Tensor, Array]]:
    """Return place, tensor and numbers of the outputs of a body that are constants of more than one number."""
    found = []
    for place, tensor in enumerate(body.outputs):
        values = constant_value(tensor)
        if values is not None and values.size > 1:
            found.append((place, tensor, values))
    return found


def _clashes(graph: gs.Graph) -> bool:
    names = [tensor.name for nested in all_graphs(graph) for tensor in own_tensors(nested)]
    return len(set(names)) < len(names)


def own_tensors(graph: gs.Graph) -> Iterable[gs.Tensor]:
    """Return the named tensors that a graph defines, each once."""
    own = [
        *graph.inputs,
        *graph.initializers.values(),
        *(tensor for node in graph.nodes for tensor in node.outputs),
    ]
    return {id(tensor): tensor for tensor in own if tensor.name}.values()


def without_declarations(shell: onnx.GraphProto) -> onnx.GraphProto:
    """Copy a shell without what it says of tensors by name."""
    copy = onnx.GraphProto()
    copy.CopyFrom(shell)
    for field in ("value_info", "output", "quantization_annotation"):
        copy.ClearField(field)
    return copy
