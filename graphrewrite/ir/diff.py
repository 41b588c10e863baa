"""What changed between two models, as text: for goldens, reports, and the check that a pass says the truth.

Lines begin with `+` (only in the second model), `-` (only in the first) or `~` (in both, but different). Nodes are
told apart by the first tensor they write, which no two nodes of a graph share.
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto, GraphProto, NodeProto, ValueInfoProto

from graphrewrite.ir.model import Model
from graphrewrite.ir.outline import outline
from graphrewrite.ir.values import Array, StoredValues, array_of, onnx_dtype_to_numpy, stored_type

_COMPARED_APART = frozenset({"node", "initializer", "input", "output", "value_info"})
_CHUNK = 1 << 24
_LONGEST = 60

_Named: TypeAlias = Mapping[str, object]


def diff(before: Model, after: Model) -> str:
    """Return all differences, one per line; empty exactly when nothing differs that a pass can change."""
    return "\n".join(changes(before, after))


def is_same(before: Model, after: Model) -> bool:
    """Tell whether `diff` of two models is empty; stops at the first difference."""
    return next(changes(before, after), None) is None


def changes(before: Model, after: Model) -> Iterator[str]:
    """Yield the lines of `diff`, in time linear in the nodes and in the weights that are not shared."""
    one, two = outline(before), outline(after)
    if one == two:  # one pass in C; what it finds is told apart below
        yield from _initializers(before.graph.initializers, after.graph.initializers)
        return
    yield from _fields("model", {"ir_version": one.ir_version}, {"ir_version": two.ir_version})
    yield from _fields("opset", before.opsets, after.opsets)
    yield from _functions(one, two)
    yield from _declared(one.graph, two.graph)
    yield from _nodes(one.graph, two.graph)
    yield from _initializers(before.graph.initializers, after.graph.initializers)
    yield from _others(one.graph, two.graph)
    yield from _fields("metadata", before.metadata, after.metadata)


def _fields(kind: str, before: _Named, after: _Named) -> Iterator[str]:
    for name in dict.fromkeys((*before, *after)):
        if name not in after:
            yield f"- {kind} {name!r} {_short(before[name])}"
        elif name not in before:
            yield f"+ {kind} {name!r} {_short(after[name])}"
        elif before[name] != after[name]:
            yield f"~ {kind} {name!r}: {_short(before[name])} -> {_short(after[name])}"


def _functions(before: onnx.ModelProto, after: onnx.ModelProto) -> Iterator[str]:
    one, two = (
        {f"{f.domain}:{f.name}": f.SerializeToString(deterministic=True) for f in proto.functions}
        for proto in (before, after)
    )
    for name in dict.fromkeys((*one, *two)):
        if one.get(name) != two.get(name):
            yield f"{'+' if name not in one else '-' if name not in two else '~'} function {name}"


def _declared(before: GraphProto, after: GraphProto) -> Iterator[str]:
    for kind in ("input", "output"):
        one, two = list(getattr(before, kind)), list(getattr(after, kind))
        yield from _infos(kind, one, two)
        names = [info.name for info in one], [info.name for info in two]
        if names[0] != names[1] and sorted(names[0]) == sorted(names[1]):
            yield f"~ order of {kind}s: {', '.join(names[0])} -> {', '.join(names[1])}"
    yield from _infos("tensor", list(before.value_info), list(after.value_info))


def _infos(kind: str, before: list[ValueInfoProto], after: list[ValueInfoProto]) -> Iterator[str]:
    one, two = ({info.name: info for info in infos} for infos in (before, after))
    for name in dict.fromkeys((*one, *two)):
        if name not in two:
            yield f"- {kind} {name} {_type_text(one[name])}"
        elif name not in one:
            yield f"+ {kind} {name} {_type_text(two[name])}"
        elif one[name] != two[name]:
            yield f"~ {kind} {name}: {_type_text(one[name])} -> {_type_text(two[name])}"


def _nodes(before: GraphProto, after: GraphProto) -> Iterator[str]:
    one, two = _by_output(before), _by_output(after)
    for key, node in one.items():
        if key not in two:
            yield f"- node {_node_text(node)}"
        elif node.SerializeToString(deterministic=True) != two[key].SerializeToString(deterministic=True):
            yield f"~ node {node.name or key}: {'; '.join(_node_changes(node, two[key])) or 'annotations'}"
    for key, node in two.items():
        if key not in one:
            yield f"+ node {_node_text(node)}"
    if [key for key in one if key in two] != [key for key in two if key in one]:
        yield "~ order of nodes"


def _by_output(graph: GraphProto) -> dict[str, NodeProto]:
    keyed: dict[str, NodeProto] = {}
    for index, node in enumerate(graph.node):
        names = list(node.output)
        key = names[0] if names and names[0] else next(filter(None, names), f"#{index}")
        keyed[f"{key}#{index}" if key in keyed else key] = node
    return keyed


def _node_changes(before: NodeProto, after: NodeProto) -> Iterator[str]:
    if (before.domain, before.op_type) != (after.domain, after.op_type):
        yield f"operator {_op(before)} -> {_op(after)}"
    if before.name != after.name:
        yield f"name {before.name!r} -> {after.name!r}"
    for kind in ("input", "output"):
        one, two = list(getattr(before, kind)), list(getattr(after, kind))
        if one != two:
            yield f"{kind}s ({', '.join(one)}) -> ({', '.join(two)})"
    attributes = [{attribute.name: attribute for attribute in node.attribute} for node in (before, after)]
    for name in dict.fromkeys((*attributes[0], *attributes[1])):
        first, second = attributes[0].get(name), attributes[1].get(name)
        if first == second:
            continue
        if first is None or second is None:
            yield f"{'+' if first is None else '-'}{name}={_attribute_text(first or second)}"
        elif first.type == second.type == AttributeProto.GRAPH:
            inner = [*_nodes(first.g, second.g), *_declared(first.g, second.g)]
            yield f"{name}: [{'; '.join(inner) or 'initializers'}]"
        else:
            yield f"{name} {_attribute_text(first)} -> {_attribute_text(second)}"


def _initializers(before: Mapping[str, gs.Constant], after: Mapping[str, gs.Constant]) -> Iterator[str]:
    for name, constant in before.items():
        if name not in after:
            yield f"- initializer {name} {_constant_text(constant)}"
            continue
        other = after[name]
        if stored_type(constant) != stored_type(other) or tuple(constant.shape) != tuple(other.shape):
            yield f"~ initializer {name}: {_constant_text(constant)} -> {_constant_text(other)}"
        elif not _same_values(constant, other):
            yield f"~ initializer {name}: {_constant_text(constant)} values{_distance(constant, other)}"
    for name, constant in after.items():
        if name not in before:
            yield f"+ initializer {name} {_constant_text(constant)}"


def _same_values(one: gs.Constant, two: gs.Constant) -> bool:
    """Compare bit for bit, a piece at a time; shared arrays and equal ranges of a file are not read."""
    a, b = one._values, two._values
    if a is b:
        return True
    if isinstance(a, StoredValues) and isinstance(b, StoredValues):
        if a.tensor is b.tensor and a.source is b.source:
            return True
        if a.source is not None and a.source == b.source and a.source.file is b.source.file:
            return True
    first, second = array_of(one), array_of(two)
    if first.dtype.hasobject:
        return bool(np.array_equal(first, second))
    flat = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (first, second)]
    pieces = range(0, len(flat[0]), _CHUNK)
    return all(np.array_equal(flat[0][i : i + _CHUNK], flat[1][i : i + _CHUNK]) for i in pieces)


def _distance(one: gs.Constant, two: gs.Constant) -> str:
    a, b = array_of(one), array_of(two)
    if a.dtype.kind != "f" or a.size > _CHUNK:
        return ""
    with np.errstate(invalid="ignore", over="ignore"):
        return f", by up to {np.max(np.abs(a.astype(np.float64) - b.astype(np.float64))):.3g}"


def _others(before: GraphProto, after: GraphProto) -> Iterator[str]:
    one, two = (
        {field.name: value for field, value in graph.ListFields() if field.name not in _COMPARED_APART}
        for graph in (before, after)
    )
    for name in dict.fromkeys((*one, *two)):
        if one.get(name) != two.get(name):
            yield f"~ graph {name}"


def _op(node: NodeProto) -> str:
    return f"{node.domain}:{node.op_type}" if node.domain else node.op_type


def _node_text(node: NodeProto) -> str:
    attributes = ", ".join(f"{a.name}={_attribute_text(a)}" for a in node.attribute)
    return f"{_op(node)} ({', '.join(node.input)}) -> ({', '.join(node.output)})" + (
        f" {{{attributes}}}" if attributes else ""
    )


def _attribute_text(attribute: AttributeProto | None) -> str:
    if attribute is None:
        return ""
    if attribute.ref_attr_name:
        return f"@{attribute.ref_attr_name}"
    if attribute.type == AttributeProto.TENSOR:
        return _tensor_text(attribute.t)
    if attribute.type == AttributeProto.GRAPH:
        return f"graph of {len(attribute.g.node)} nodes"
    return _short(onnx.helper.get_attribute_value(attribute))


def _tensor_text(tensor: onnx.TensorProto) -> str:
    array = onnx.numpy_helper.to_array(tensor)
    return f"{array.dtype}{list(array.shape)} {_values_text(array)}".rstrip()


def _values_text(array: Array) -> str:
    return _short(array.tolist()) if array.size <= 16 else ""


def _constant_text(constant: gs.Constant) -> str:
    return f"{onnx_dtype_to_numpy(stored_type(constant))}{list(constant.shape)}"


def _type_text(info: ValueInfoProto) -> str:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        return (kind or "untyped").removesuffix("_type")
    tensor = info.type.tensor_type
    element = str(onnx_dtype_to_numpy(tensor.elem_type)) if tensor.elem_type else "?"
    if not tensor.HasField("shape"):
        return element
    dims = (str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim)
    return f"{element}[{', '.join(dims)}]"


def _short(value: object) -> str:
    text = repr(value.decode(errors="replace") if isinstance(value, bytes) else value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
