"""Protos to graph and back, losing nothing.

onnx-graphsurgeon's own importer drops what it has no place for (unused initializers, sparse layouts, doc strings,
metadata, quantization annotations, type denotations, attribute kinds). This codec builds the same `gs` objects and
keeps the rest beside them, as plain attributes that only the codec and `clone` look at:

- `graph.initializers`: name -> `gs.Constant`, every initializer of that graph, used or not, in file order;
- `graph.shell`, `node.shell`, `tensor.info`: the fields of the proto that `gs` has no place for.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto

from graphrewrite.ir.values import (
    FileRange,
    constant_from_proto,
    constant_from_sparse,
    numpy_dtype_to_onnx,
    onnx_dtype_to_numpy,
    proto_from_constant,
)

Locate: TypeAlias = Callable[[TensorProto], FileRange | None]
Encode: TypeAlias = Callable[[gs.Constant], TensorProto | onnx.SparseTensorProto]

_GRAPH_LISTS = frozenset({"node", "initializer", "sparse_initializer", "input", "output", "value_info"})
_NODE_EXTRAS = ("doc_string", "overload", "metadata_props", "device_configurations")


def nowhere(tensor: TensorProto) -> FileRange | None:
    """Locate nothing: for protos whose tensors are all inline."""
    return None


def graph_from_proto(proto: GraphProto, locate: Locate = nowhere, outer: Mapping[str, gs.Tensor] | None = None) -> gs.Graph:
    """Build the graph of a proto; `outer` resolves names that a subgraph captures."""
    scope = _Scope(outer or {})
    infos = {info.name: info for info in proto.value_info}
    initializers: dict[str, gs.Constant] = {}
    for stored in proto.initializer:
        initializers[stored.name] = constant_from_proto(stored, locate(stored))
    for sparse in proto.sparse_initializer:
        initializers[sparse.values.name] = constant_from_sparse(sparse)
    scope.local.update(initializers)

    def declared(info: ValueInfoProto) -> gs.Tensor:
        tensor = scope.local.get(info.name)
        if tensor is None:
            tensor = scope.local[info.name] = gs.Variable(info.name)
        describe(tensor, info)
        return tensor

    inputs = [declared(info) for info in proto.input]
    outputs_declared = {info.name: info for info in proto.output}
    nodes = [_node_from_proto(node, scope, locate) for node in proto.node]
    for name, info in infos.items():
        if name in scope.local:
            describe(scope.local[name], info)
    outputs = [_graph_output(info, scope) for info in outputs_declared.values()]
    if len(outputs_declared) != len(proto.output):  # the same tensor listed twice stays listed twice
        outputs = [_graph_output(info, scope) for info in proto.output]

    graph = gs.Graph(nodes=nodes, inputs=inputs, outputs=outputs, name=proto.name, doc_string=proto.doc_string)
    graph.initializers = initializers
    graph.shell = _without(proto, _GRAPH_LISTS)
    return graph


def graph_to_proto(graph: gs.Graph, encode: Encode = proto_from_constant) -> GraphProto:
    """Write a graph as a proto; `encode` decides how each tensor's numbers are stored."""
    proto = GraphProto()
    proto.CopyFrom(graph.shell)
    proto.name = graph.name
    if graph.doc_string:
        proto.doc_string = graph.doc_string
    proto.input.extend(_info_of(tensor) for tensor in graph.inputs)
    proto.output.extend(_info_of(tensor) for tensor in graph.outputs)
    for constant in graph.initializers.values():
        stored = encode(constant)
        if isinstance(stored, onnx.SparseTensorProto):
            proto.sparse_initializer.append(stored)
        else:
            proto.initializer.append(stored)
    boundary = {id(tensor) for tensor in graph.inputs} | {id(tensor) for tensor in graph.outputs}
    seen: set[int] = set()
    for node in graph.nodes:
        _node_to_proto(node, proto.node.add(), encode)
        for tensor in node.outputs:
            if id(tensor) in boundary or id(tensor) in seen or tensor.name == "":
                continue
            seen.add(id(tensor))
            info = _known_info(tensor)
            if info is not None:
                proto.value_info.append(info)
    for constant in graph.initializers.values():
        if id(constant) not in boundary and getattr(constant, "info", None) is not None:
            proto.value_info.append(_info_of(constant))
    return proto


def describe(tensor: gs.Tensor, info: ValueInfoProto) -> None:
    """Attach declared type and shape to a tensor, keeping the declaration for an exact write-back."""
    kept = ValueInfoProto()
    kept.CopyFrom(info)
    tensor.info = kept
    if isinstance(tensor, gs.Variable):
        tensor.dtype, tensor.shape, tensor.type = read_info(kept)


def read_info(info: ValueInfoProto) -> tuple[np.dtype[np.generic] | None, list[int | str | None] | None, str]:
    """Return (dtype, shape, kind) of a declaration; a dimension is an int, a symbol, or None."""
    kind = info.type.WhichOneof("value") or "tensor_type"
    if kind != "tensor_type":
        return None, None, kind
    tensor_type = info.type.tensor_type
    dtype = onnx_dtype_to_numpy(tensor_type.elem_type) if tensor_type.elem_type else None
    if not tensor_type.HasField("shape"):
        return dtype, None, kind
    shape: list[int | str | None] = []
    for dim in tensor_type.shape.dim:
        which = dim.WhichOneof("value")
        shape.append(dim.dim_value if which == "dim_value" else dim.dim_param if which == "dim_param" else None)
    return dtype, shape, kind


class _Scope:
    """Names of one graph, then of the graphs around it."""

    def __init__(self, outer: Mapping[str, gs.Tensor]) -> None:
        self.local: dict[str, gs.Tensor] = {}
        self.outer = outer

    def __contains__(self, name: object) -> bool:
        return name in self.local or name in self.outer

    def __getitem__(self, name: str) -> gs.Tensor:
        return self.local[name] if name in self.local else self.outer[name]

    def read(self, name: str) -> gs.Tensor:
        if name == "":
            return gs.Variable.empty()
        if name in self.local:
            return self.local[name]
        if name in self.outer:
            return self.outer[name]
        tensor = self.local[name] = gs.Variable(name)
        return tensor

    def write(self, name: str) -> gs.Tensor:
        if name == "":
            return gs.Variable.empty()
        if name not in self.local:
            self.local[name] = gs.Variable(name)
        return self.local[name]


def _graph_output(info: ValueInfoProto, scope: _Scope) -> gs.Tensor:
    tensor = scope.read(info.name)
    describe(tensor, info)
    return tensor


def _node_from_proto(proto: NodeProto, scope: _Scope, locate: Locate) -> gs.Node:
    attrs: dict[str, object] = {}
    shell: NodeProto | None = None
    for attribute in proto.attribute:
        value = _attribute_value(attribute, scope, locate)
        attrs[attribute.name] = value
        if (attribute.doc_string or (isinstance(value, list) and not value)) and not isinstance(value, AttributeProto):
            shell = shell or NodeProto()
            shell.attribute.add(name=attribute.name, doc_string=attribute.doc_string, type=attribute.type)
    node = gs.Node(
        op=proto.op_type,
        name=proto.name,
        attrs=attrs,
        inputs=[scope.read(name) for name in proto.input],
        outputs=[scope.write(name) for name in proto.output],
        domain=proto.domain if proto.HasField("domain") else None,
    )
    for field in _NODE_EXTRAS:
        value = getattr(proto, field, None)
        if value:
            shell = shell or NodeProto()
            if isinstance(value, str):
                setattr(shell, field, value)
            else:
                getattr(shell, field).extend(value)
    node.shell = shell
    return node


def _attribute_value(attribute: AttributeProto, scope: _Scope, locate: Locate) -> object:
    if attribute.ref_attr_name:
        return _kept(attribute)
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
        return _text(attribute.s)
    if kind == AttributeProto.STRINGS:
        return [_text(value) for value in attribute.strings]
    if kind == AttributeProto.TENSOR:
        return constant_from_proto(attribute.t, locate(attribute.t))
    if kind == AttributeProto.SPARSE_TENSOR:
        return constant_from_sparse(attribute.sparse_tensor)
    if kind == AttributeProto.GRAPH:
        return graph_from_proto(attribute.g, locate, scope)  # type: ignore[arg-type]
    if kind == AttributeProto.GRAPHS:
        return [graph_from_proto(graph, locate, scope) for graph in attribute.graphs]  # type: ignore[arg-type]
    return _kept(attribute)


def _kept(attribute: AttributeProto) -> AttributeProto:
    copy = AttributeProto()
    copy.CopyFrom(attribute)
    return copy


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _node_to_proto(node: gs.Node, proto: NodeProto, encode: Encode) -> None:
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
            proto.attribute[-1].type = hints[name].type
            if hints[name].doc_string:
                proto.attribute[-1].doc_string = hints[name].doc_string


def write_attribute(proto: AttributeProto, name: str, value: object, encode: Encode = proto_from_constant) -> None:
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
        _write_list(proto, list(value), encode)
    else:
        raise TypeError(f"attribute {name!r} has a value of type {type(value).__name__}, which ONNX cannot store")
    proto.name = name


def _write_list(proto: AttributeProto, values: list[object], encode: Encode) -> None:
    if any(isinstance(value, gs.Graph) for value in values):
        proto.type = AttributeProto.GRAPHS
        proto.graphs.extend(graph_to_proto(value, encode) for value in values)
    elif any(isinstance(value, (str, bytes)) for value in values):
        proto.type = AttributeProto.STRINGS
        proto.strings.extend(value.encode() if isinstance(value, str) else value for value in values)  # type: ignore[misc]
    elif any(isinstance(value, (float, np.floating)) for value in values):
        proto.type = AttributeProto.FLOATS
        proto.floats.extend(float(value) for value in values)  # type: ignore[arg-type]
    else:
        proto.type = AttributeProto.INTS
        proto.ints.extend(int(value) for value in values)  # type: ignore[call-overload]


def _known_info(tensor: gs.Tensor) -> ValueInfoProto | None:
    if getattr(tensor, "info", None) is None and (not isinstance(tensor, gs.Variable) or tensor.dtype is None):
        return None
    return _info_of(tensor)


def _info_of(tensor: gs.Tensor) -> ValueInfoProto:
    info = getattr(tensor, "info", None)
    if isinstance(tensor, gs.Constant):
        if info is not None and read_info(info)[1] == list(tensor.shape):
            return _renamed(info, tensor.name)
        return onnx.helper.make_tensor_value_info(tensor.name, numpy_dtype_to_onnx(tensor.dtype), tensor.shape)
    if info is not None and read_info(info) == (tensor.dtype, tensor.shape, tensor.type):
        return _renamed(info, tensor.name)
    if tensor.dtype is None:
        if info is not None and tensor.type != "tensor_type":
            return _renamed(info, tensor.name)
        return ValueInfoProto(name=tensor.name)
    number = tensor.dtype if isinstance(tensor.dtype, int) else numpy_dtype_to_onnx(tensor.dtype)
    return onnx.helper.make_tensor_value_info(tensor.name, number, tensor.shape)


def _renamed(info: ValueInfoProto, name: str) -> ValueInfoProto:
    if info.name == name:
        return info
    copy = ValueInfoProto()
    copy.CopyFrom(info)
    copy.name = name
    return copy


def _without(proto: GraphProto, skip: frozenset[str]) -> GraphProto:
    shell = GraphProto()
    for field, value in proto.ListFields():
        if field.name in skip or field.name in ("name", "doc_string"):
            continue
        getattr(shell, field.name).extend(value)
    return shell
