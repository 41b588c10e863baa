"""Bodies as models of their own: what If, Loop, Scan and function calls run, with the sizes their node hands in.

Shape inference of a model says nothing about the inside of a body. So a body becomes a small model: its formal inputs
and the tensors it captures are inputs with the sizes of the present world, or constants where their numbers are known.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto, FunctionProto

from graphrewrite.cost.site import Sizes
from graphrewrite.ir import Array, Model
from graphrewrite.ir.clone import clone_graph
from graphrewrite.ir.codec import graph_from_proto, write_attribute
from graphrewrite.ir.declared import declare_list
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.shapes import Parts

FunctionKey = tuple[str, str, str]


class Given(NamedTuple):
    """What is known of a tensor handed into a body; None for what is not.

    `item` is the sizes and type of whatever a list of tensors holds, `parts` those of each of them where they differ.
    """

    sizes: Sizes | None = None
    dtype: np.dtype[np.generic] | None = None
    numbers: Array | None = None
    item: tuple[Sizes, np.dtype[np.generic] | None] | None = None
    parts: Parts | None = None


def function_key(function: FunctionProto) -> FunctionKey:
    """Return the key a node calls the function by."""
    return (function.domain, function.name, getattr(function, "overload", ""))


def called(node: gs.Node) -> FunctionKey:
    """Return the key of the function that a node would call."""
    shell = getattr(node, "shell", None)
    return (node.domain or "", node.op, getattr(shell, "overload", "") if shell is not None else "")


def free_tensors(body: gs.Graph) -> Iterator[gs.Tensor]:
    """Yield each tensor that a body, or a body inside it, reads from outside, once."""
    own: set[int] = set()
    used: dict[int, gs.Tensor] = {}
    for graph in all_graphs(body):
        own.update(id(tensor) for tensor in graph.initializers.values())
        own.update(id(tensor) for tensor in graph.inputs)
        for tensor in graph.outputs:
            used[id(tensor)] = tensor
        for node in graph.nodes:
            own.update(id(tensor) for tensor in node.outputs)
            for tensor in node.inputs:
                used[id(tensor)] = tensor
    yield from (tensor for key, tensor in used.items() if key not in own and tensor.name)


class Body(NamedTuple):
    """A body as a model; `stands_for` maps the id of each tensor that came from outside to the tensor out there.

    What was handed in through a formal input maps to None: the calling node reads it, so it is accounted for there.
    `lists` has what the inputs hold that are lists of unlike tensors.
    """

    model: Model
    stands_for: dict[int, gs.Tensor | None]
    lists: dict[str, Parts]


def body_model(
    body: gs.Graph, outer: Model, formal: Sequence[Given], given: Callable[[gs.Tensor], Given]
) -> Body:
    """Return the body of an If, Loop or Scan as a model.

    `formal` describes the body's inputs in order (missing ones keep their declaration), `given` a tensor read from
    outside.
    """
    twins: dict[int, gs.Tensor] = {}
    stands_for: dict[int, gs.Tensor | None] = {}
    lists = _lists(body.inputs, formal)
    for tensor in free_tensors(body):
        if isinstance(tensor, gs.Constant):
            twins[id(tensor)] = gs.Constant(tensor.name, tensor._values)
        else:
            known = given(tensor)
            twins[id(tensor)] = _stand_in(tensor.name, known)
            lists |= _lists([tensor], [known])
        stands_for[id(twins[id(tensor)])] = tensor
    graph = clone_graph(body, twins)
    for twin in twins.values():
        if isinstance(twin, gs.Constant):
            graph.initializers.setdefault(twin.name, twin)
        else:
            graph.inputs.append(twin)
    stands_for.update(dict.fromkeys(_bind(graph, formal)))
    return Body(Model(graph, dict(outer.opsets), list(outer.functions)), stands_for, lists)


def function_model(function: FunctionProto, node: gs.Node, outer: Model, formal: Sequence[Given]) -> Body:
    """Return the body of the function a node calls as a model, attributes filled in from the node or the defaults."""
    attributes = {proto.name: proto for proto in function.attribute_proto}
    for name, value in node.attrs.items():
        attributes[name] = AttributeProto()
        write_attribute(attributes[name], name, value)
    # an argument that is not passed is not there inside either
    absent = {
        name
        for index, name in enumerate(function.input)
        if index >= len(node.inputs) or not node.inputs[index].name
    }
    proto = onnx.GraphProto(name=function.name)
    for inner in function.node:
        proto.node.add().CopyFrom(inner)
        _fill(proto.node[-1], attributes, absent)
    proto.input.extend(onnx.ValueInfoProto(name=name) for name in function.input if name not in absent)
    proto.output.extend(onnx.ValueInfoProto(name=name) for name in function.output)
    graph = graph_from_proto(proto)
    passed = [given for given, name in zip(formal, function.input, strict=False) if name not in absent]
    lists = _lists(graph.inputs, passed)
    handed = _bind(graph, passed)
    opsets = dict(outer.opsets)
    opsets.update({domain_name(entry.domain): entry.version for entry in function.opset_import})
    return Body(Model(graph, opsets, list(outer.functions)), dict.fromkeys(handed), lists)


def _lists(tensors: Sequence[gs.Tensor], given: Sequence[Given]) -> dict[str, Parts]:
    """Return what lists of unlike tensors hold, by name."""
    return {
        tensor.name: known.parts
        for tensor, known in zip(tensors, given, strict=False)
        if known.parts is not None
    }


def _fill(node: onnx.NodeProto, attributes: Mapping[str, AttributeProto], absent: set[str]) -> None:
    for index, name in enumerate(node.input):
        if name in absent:
            node.input[index] = ""
    kept = []
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            if attribute.ref_attr_name not in attributes:
                continue  # optional and not given: the operator's own default holds
            filled = AttributeProto()
            filled.CopyFrom(attributes[attribute.ref_attr_name])
            filled.name = attribute.name
            kept.append(filled)
            continue
        for graph in (
            (attribute.g, *attribute.graphs)
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS)
            else ()
        ):
            for inner in graph.node:
                _fill(inner, attributes, absent)
        kept.append(attribute)
    if len(kept) != len(node.attribute) or any(
        new is not old for new, old in zip(kept, node.attribute, strict=True)
    ):
        copies = [AttributeProto.FromString(attribute.SerializeToString()) for attribute in kept]
        del node.attribute[:]
        node.attribute.extend(copies)


def _bind(graph: gs.Graph, formal: Sequence[Given]) -> list[int]:
    """Give a body's own inputs the sizes or numbers that its node hands in; return the ids of those with numbers."""
    constants: list[int] = []
    for tensor, given in zip(list(graph.inputs), formal, strict=False):
        if isinstance(tensor, gs.Constant):
            continue
        if given.numbers is not None:
            constant = gs.Constant(tensor.name, given.numbers)
            _replace(graph, tensor, constant)
            constants.append(id(constant))
            continue
        if given.item is not None:
            declare_list(tensor, given.item[1] or np.dtype(np.float32), given.item[0])
            continue
        tensor.dtype = given.dtype if given.dtype is not None else tensor.dtype
        tensor.shape = list(given.sizes) if given.sizes is not None else tensor.shape
    return constants


def _replace(graph: gs.Graph, old: gs.Variable, constant: gs.Constant) -> None:
    for node in list(old.outputs):
        for index, tensor in enumerate(node.inputs):
            if tensor is old:
                node.inputs[index] = constant
    graph.inputs = [tensor for tensor in graph.inputs if tensor is not old]
    for nested in all_graphs(graph):
        nested.outputs = [constant if tensor is old else tensor for tensor in nested.outputs]
    graph.initializers[constant.name] = constant


def _stand_in(name: str, given: Given) -> gs.Tensor:
    if given.numbers is not None:
        return gs.Constant(name, given.numbers)
    tensor = gs.Variable(name, given.dtype, None if given.sizes is None else list(given.sizes))
    if given.item is not None:
        declare_list(tensor, given.item[1] or np.dtype(np.float32), given.item[0])
    return tensor
