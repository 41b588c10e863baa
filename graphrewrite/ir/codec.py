"""Protos to graph and back, losing nothing.

onnx-graphsurgeon's own importer drops what it has no place for (unused initializers, sparse layouts, doc strings,
metadata, quantization annotations, type denotations, attribute kinds). This codec builds the same `gs` objects and
keeps the rest beside them, as plain attributes that only the codec and `clone` look at:

- `graph.initializers`: name -> `gs.Constant`, every initializer of that graph, used or not, in file order;
- `graph.shell`, `node.shell`, `tensor.info`: the fields of the proto that `gs` has no place for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias, TypeVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from graphrewrite.errors import InvalidModel
from graphrewrite.ir.declared import describe as describe
from graphrewrite.ir.declared import info_of, is_unchanged, known_info
from graphrewrite.ir.declared import read_info as read_info
from graphrewrite.ir.external import read_in
from graphrewrite.ir.values import (
    FileRange,
    constant_from_proto,
    constant_from_sparse,
    proto_from_constant,
    text_of,
    utf8,
)

Locate: TypeAlias = Callable[[TensorProto], FileRange | None]
Encode: TypeAlias = Callable[[gs.Constant], TensorProto | onnx.SparseTensorProto]

_Message = TypeVar("_Message", bound=Message)

FREE_INITIALIZERS = 4
"""The first IR version whose initializers need not be listed among the graph inputs."""

_GRAPH_LISTS = frozenset({"node", "initializer", "sparse_initializer", "input", "output", "value_info"})
_NODE_EXTRAS = ("doc_string", "overload", "metadata_props", "device_configurations")


def list_initializers(graph: gs.Graph, proto: onnx.ModelProto) -> None:
    """Name every initializer of the main graph among the inputs where the proto's IR version asks for it."""
    if proto.ir_version >= FREE_INITIALIZERS:
        return
    listed = {info.name for info in proto.graph.input}
    missing = (constant for name, constant in graph.initializers.items() if name not in listed)
    proto.graph.input.extend(info_of(constant) for constant in missing)


def nowhere(tensor: TensorProto) -> FileRange | None:
    """Locate nothing: for protos whose tensors are all inline.

    Raises:
        InvalidModel: the tensor is external.
    """
    if tensor.data_location == TensorProto.EXTERNAL:
        raise InvalidModel(
            f"the tensor {tensor.name!r} lies in an external file, which a bare proto cannot locate; "
            "expected inline tensors; use Model.load(path), or onnx.load which reads them in"
        )
    return None


def graph_from_proto(
    proto: GraphProto, locate: Locate = nowhere, outer: Mapping[str, gs.Tensor] | None = None
) -> gs.Graph:
    """Build the graph of a proto; `outer` resolves names that a subgraph captures.

    Of two initializers under one name the later counts, as it does in onnxruntime.
    """
    scope = _Scope(outer or {})
    initializers: dict[str, gs.Constant] = {}
    for stored in proto.initializer:
        initializers[stored.name] = constant_from_proto(stored, locate(stored))
    for sparse in proto.sparse_initializer:
        initializers[sparse.values.name] = constant_from_sparse(_brought_in(sparse, locate))
    scope.local.update(initializers)
    inputs = [scope.write(info.name) for info in proto.input]
    # All outputs first: a body may come before the node whose output it captures when the file is not sorted.
    for node in proto.node:
        for name in node.output:
            scope.write(name)
    nodes = [_node_from_proto(node, scope, locate) for node in proto.node]
    outputs = [scope.read(info.name) for info in proto.output]

    graph = gs.Graph(inputs=inputs, outputs=outputs, name=utf8(proto.name), doc_string=utf8(proto.doc_string))
    graph.nodes = nodes  # not through the constructor, which walks all nodes once more
    graph.initializers = initializers
    graph.shell = _without(proto, _GRAPH_LISTS)
    _describe_all(proto, scope, graph)
    if outer is not None:
        for tensor in outputs:
            tensor.leaves_body = True  # `edit.redirect` must look for it in the outputs of nested graphs
    return graph


def nodes_from_proto(
    protos: Iterable[NodeProto], tensors: dict[str, gs.Tensor], locate: Locate = nowhere
) -> list[gs.Node]:
    """Build nodes outside a graph; `tensors` resolves the names they use and takes up those they make."""
    scope = _Scope({})
    scope.local = tensors
    kept = list(protos)
    for node in kept:
        for name in node.output:
            scope.write(name)
    return [_node_from_proto(node, scope, locate) for node in kept]


def _describe_all(proto: GraphProto, scope: "_Scope", graph: gs.Graph) -> None:
    """Attach declarations to tensors; `graph.shell` keeps those that no tensor of this graph can carry.

    That is what an output is declared as when the same tensor is declared elsewhere too (it is also an input, or it
    belongs to the graph around), what is said twice, and what is said of names that nothing in this graph bears.
    """
    for tensor, info in zip(graph.inputs, proto.input, strict=True):
        describe(tensor, info)
    for info in proto.output:
        tensor = scope.local.get(info.name)
        known = getattr(tensor, "info", None)
        if tensor is not None and known is None:
            describe(tensor, info)
        elif known != info:
            graph.shell.output.append(info)
    for info in proto.value_info:
        tensor = scope.local.get(info.name)
        if tensor is not None and getattr(tensor, "info", None) is None:
            describe(tensor, info)
        else:
            graph.shell.value_info.append(info)


def graph_to_proto(
    graph: gs.Graph, encode: Encode = proto_from_constant, into: GraphProto | None = None, inner: bool = True
) -> GraphProto:
    """Write a graph as a proto, into `into` when given; `encode` decides how each tensor's numbers are stored.

    Without `inner` the types of tensors other than inputs and outputs are left out.
    """
    proto = GraphProto() if into is None else into
    proto.CopyFrom(graph.shell)
    declared = {info.name: info for info in proto.output}
    besides = {info.name: info for info in proto.value_info}
    proto.ClearField("output")
    proto.ClearField("value_info")
    proto.name = graph.name
    if graph.doc_string:
        proto.doc_string = graph.doc_string
    proto.input.extend(info_of(tensor) for tensor in graph.inputs)
    proto.output.extend(info_of(tensor, declared.get(tensor.name)) for tensor in graph.outputs)
    for constant in graph.initializers.values():
        stored = encode(constant)
        if isinstance(stored, onnx.SparseTensorProto):
            proto.sparse_initializer.append(stored)
        else:
            proto.initializer.append(stored)
    seen = {id(tensor) for tensor in (*graph.inputs, *graph.outputs)}
    for tensor in _borne(graph, encode, proto):
        if not inner or id(tensor) in seen or tensor.name == "":
            continue
        seen.add(id(tensor))
        besides.pop(tensor.name, None)
        info = known_info(tensor)
        if info is not None:
            proto.value_info.append(info)
    if inner:
        for tensor in (*graph.inputs, *graph.outputs):
            if tensor.name in besides and not is_unchanged(tensor):
                del besides[tensor.name]
        proto.value_info.extend(besides.values())
    return proto


def _borne(graph: gs.Graph, encode: Encode, proto: GraphProto) -> Iterator[gs.Tensor]:
    """Write the nodes, yielding the tensors they make; then yield the initializers."""
    for node in graph.nodes:
        node_to_proto(node, proto.node.add(), encode)
        yield from node.outputs
    yield from graph.initializers.values()


class _Scope(Mapping[str, gs.Tensor]):
    """Names of one graph, then of the graphs around it."""

    def __init__(self, outer: Mapping[str, gs.Tensor]) -> None:
        self.local: dict[str, gs.Tensor] = {}
        self.outer = outer

    def __getitem__(self, name: str) -> gs.Tensor:
        found = self.local.get(name)
        return self.outer[name] if found is None else found

    def __iter__(self) -> Iterator[str]:
        yield from self.local
        yield from self.outer

    def __len__(self) -> int:
        return len(self.local) + len(self.outer)

    def read(self, name: str) -> gs.Tensor:
        if name == "":
            return gs.Variable.empty()
        found = self.local.get(name)
        if found is None:
            found = self.outer.get(name)
        return self.write(name) if found is None else found

    def write(self, name: str) -> gs.Tensor:
        if name == "":
            return gs.Variable.empty()
        found = self.local.get(name)
        if found is None:
            found = self.local[utf8(name)] = gs.Variable(name)
        return found


def _node_from_proto(proto: NodeProto, scope: _Scope, locate: Locate) -> gs.Node:
    attrs: dict[str, object] = {}
    shell: NodeProto | None = None
    for attribute in proto.attribute:
        value = attribute_value(attribute, scope, locate)
        attrs[utf8(attribute.name)] = value
        if (attribute.doc_string or (isinstance(value, list) and not value)) and not isinstance(
            value, AttributeProto
        ):
            shell = shell or NodeProto()
            shell.attribute.add(
                name=attribute.name, doc_string=utf8(attribute.doc_string), type=attribute.type
            )
    node = gs.Node(
        op=utf8(proto.op_type),
        name=utf8(proto.name),
        attrs=attrs,
        inputs=[scope.read(name) for name in proto.input],
        outputs=[scope.write(name) for name in proto.output],
        domain=utf8(proto.domain) if proto.HasField("domain") else None,
    )
    for field in _NODE_EXTRAS:
        value = getattr(proto, field, None)
        if value:
            shell = shell or NodeProto()
            if isinstance(value, (str, bytes)):
                setattr(shell, field, utf8(value))
            else:
                getattr(shell, field).extend(value)
    node.shell = shell
    return node


def attribute_value(
    attribute: AttributeProto, scope: Mapping[str, gs.Tensor], locate: Locate = nowhere
) -> object:
    """Return an attribute in its Python form; a kind without one stays a proto."""
    if attribute.ref_attr_name:
        return _brought_in(attribute, locate)
    kind = attribute.type
    if kind == AttributeProto.INT:
        return attribute.i
    if kind == AttributeProto.INTS:
        return list(attribute.ints)
    if kind == AttributeProto.FLOAT:
        return attribute.f
    if kind == AttributeProto.FLOATS:
        return list(attribute.floats)
    if kind == AttributeProto.STRING:
        return text_of(attribute.s)
    if kind == AttributeProto.STRINGS:
        return [text_of(value) for value in attribute.strings]
    if kind == AttributeProto.TENSOR:
        return constant_from_proto(attribute.t, locate(attribute.t))
    if kind == AttributeProto.SPARSE_TENSOR:
        return constant_from_sparse(_brought_in(attribute.sparse_tensor, locate))
    if kind == AttributeProto.GRAPH:
        return graph_from_proto(attribute.g, locate, scope)
    if kind == AttributeProto.GRAPHS:
        return [graph_from_proto(graph, locate, scope) for graph in attribute.graphs]
    return _brought_in(attribute, locate)


def _brought_in(message: _Message, locate: Locate) -> _Message:
    """Copy a part that stays a proto, with its external numbers read in."""
    copy: _Message = type(message)()
    copy.CopyFrom(message)
    read_in(copy, locate)
    return copy


def node_to_proto(node: gs.Node, proto: NodeProto, encode: Encode = proto_from_constant) -> None:
    """Fill a node proto, with whatever the node came with that a graph node has no place for."""
    shell = getattr(node, "shell", None)
    if shell is not None:
        proto.CopyFrom(shell)
        proto.ClearField("attribute")
    proto.op_type = node.op
    if node.name:
        proto.name = node.name
    if node.domain is not None:
        proto.domain = node.domain
    proto.input.extend(tensor.name for tensor in node.inputs)
    proto.output.extend(tensor.name for tensor in node.outputs)
    hints = {hint.name: hint for hint in shell.attribute} if shell is not None else {}
    for name, value in node.attrs.items():
        write_attribute(proto.attribute.add(), name, value, encode)
        if name in hints:
            if isinstance(value, list) and not value:  # an empty list does not tell of what
                proto.attribute[-1].type = hints[name].type
            if hints[name].doc_string:
                proto.attribute[-1].doc_string = hints[name].doc_string


def write_attribute(
    proto: AttributeProto, name: str, value: object, encode: Encode = proto_from_constant
) -> None:
    """Fill an attribute proto from a Python value."""
    if isinstance(value, AttributeProto):
        proto.CopyFrom(value)
    elif isinstance(value, (bool, int, np.integer, np.bool_)):
        proto.type, proto.i = AttributeProto.INT, int(value)
    elif isinstance(value, (float, np.floating)):
        proto.type, proto.f = AttributeProto.FLOAT, float(value)
    elif isinstance(value, (str, bytes)):
        proto.type, proto.s = AttributeProto.STRING, value.encode() if isinstance(value, str) else value
    elif isinstance(value, (gs.Constant, np.ndarray)):
        constant = value if isinstance(value, gs.Constant) else gs.Constant("", value)
        stored = encode(constant)
        if isinstance(stored, onnx.SparseTensorProto):
            proto.type = AttributeProto.SPARSE_TENSOR
            proto.sparse_tensor.CopyFrom(stored)
        else:
            proto.type = AttributeProto.TENSOR
            proto.t.CopyFrom(stored)
    elif isinstance(value, gs.Graph):
        proto.type = AttributeProto.GRAPH
        proto.g.CopyFrom(graph_to_proto(value, encode))
    elif isinstance(value, (list, tuple)):
        _write_list(proto, name, list(value), encode)
    else:
        raise _no_attribute(name, value)
    proto.name = name


def _no_attribute(name: str, value: object) -> InvalidModel:
    return InvalidModel(
        f"the attribute {name!r} has a value of type {type(value).__name__}, which ONNX cannot store; expected "
        "numbers, text, arrays, graphs, or a list of one of them; this is a defect of the pass that set it"
    )


def _write_list(proto: AttributeProto, name: str, values: list[object], encode: Encode) -> None:
    try:
        if any(isinstance(value, gs.Graph) for value in values):
            proto.type = AttributeProto.GRAPHS
            proto.graphs.extend(graph_to_proto(value, encode) for value in values)
        elif any(isinstance(value, (str, bytes)) for value in values):
            proto.type = AttributeProto.STRINGS
            proto.strings.extend(value.encode() if isinstance(value, str) else value for value in values)
        elif any(isinstance(value, (float, np.floating)) for value in values):
            proto.type = AttributeProto.FLOATS
            proto.floats.extend(float(value) for value in values)  # type: ignore[arg-type]
        else:
            proto.type = AttributeProto.INTS
            proto.ints.extend(int(value) for value in values)  # type: ignore[call-overload]
    except (TypeError, ValueError, AttributeError) as error:
        raise _no_attribute(name, values) from error


def _without(proto: GraphProto, skip: frozenset[str]) -> GraphProto:
    shell = GraphProto()
    for field, value in proto.ListFields():
        if field.name not in skip and field.name not in ("name", "doc_string"):
            getattr(shell, field.name).extend(value)
    read_in(shell, nowhere)
    return shell
