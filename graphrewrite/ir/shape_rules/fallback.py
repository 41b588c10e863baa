"""Operators without a rule of ours: onnx's own inference for one node, with Syms passed through as names."""

import numpy as np
import onnx
from onnx import TypeProto, checker, numpy_helper, shape_inference

from graphrewrite.ir.codec import write_attribute
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.shape_rules.call import Call, Unknown, bound_attributes
from graphrewrite.ir.symbols import Dim, Sym
from graphrewrite.ir.values import numpy_dtype_to_onnx, onnx_dtype_to_numpy


def ask_onnx(call: Call) -> None:
    """Put what `onnx.shape_inference` knows of a node's outputs; silent when it knows nothing."""
    domain = domain_name(call.node.domain)
    version = call.sweep.opsets.get(domain, 0)
    if not version or any(hasattr(value, "nodes") for value in call.node.attrs.values()):
        raise Unknown
    try:
        schema = onnx.defs.get_schema(call.node.op, version, domain)
    except onnx.defs.SchemaError:
        raise Unknown from None
    names: dict[str, Sym] = {}
    types: dict[str, TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for index, name in enumerate(call.names):
        if not name:
            continue
        dtype = call.dtype(index)
        if dtype is None:
            raise Unknown
        types[name] = _type(dtype, call.shape(index), names)
        value = call.value(index)
        if value is not None and value.dtype != object:
            data[name] = numpy_helper.from_array(np.asarray(value), name)
    node = onnx.NodeProto(op_type=call.node.op, domain=domain, input=call.names, output=call.outputs)
    for name, attribute in bound_attributes(call).items():
        write_attribute(node.attribute.add(), name, attribute)
    imports = [onnx.OperatorSetIdProto(domain=d, version=v) for d, v in call.sweep.opsets.items()]
    try:
        found = shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=imports)
    except (shape_inference.InferenceError, checker.ValidationError, RuntimeError, ValueError, TypeError):
        raise Unknown from None
    for index, name in enumerate(call.outputs):
        if name in found:
            _put(call, index, found[name], names)


def _type(dtype: np.dtype[np.generic], shape: tuple[Dim, ...] | None, names: dict[str, Sym]) -> TypeProto:
    proto = TypeProto()
    proto.tensor_type.elem_type = numpy_dtype_to_onnx(dtype)
    if shape is None:
        return proto
    proto.tensor_type.shape.SetInParent()
    for dim in shape:
        entry = proto.tensor_type.shape.dim.add()
        if isinstance(dim, Sym):
            entry.dim_param = f"sym{dim.number}"
            names[entry.dim_param] = dim
        else:
            entry.dim_value = dim
    return proto


def _put(call: Call, index: int, proto: TypeProto, names: dict[str, Sym]) -> None:
    if proto.WhichOneof("value") != "tensor_type":
        return
    kind = proto.tensor_type
    dtype = onnx_dtype_to_numpy(kind.elem_type) if kind.elem_type else None
    shape: list[Dim] | None = None
    if kind.HasField("shape"):
        shape = []
        for dim in kind.shape.dim:
            if dim.WhichOneof("value") == "dim_value":
                shape.append(dim.dim_value)
            else:
                shape.append(names[dim.dim_param] if dim.dim_param in names else call.unknown())
    call.put(index, shape, dtype)
