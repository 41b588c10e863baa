"""Operators without a torch form, written out as the nodes of the function that defines them.

onnx defines many of its operators by a function of simpler ones; our own operators carry theirs in the model.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx_graphsurgeon as gs
from onnx import FunctionProto, NodeProto, TypeProto
from onnx.defs import SchemaError, get_schema

from graphrewrite.ir.codec import node_to_proto
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.values import numpy_dtype_to_onnx

if TYPE_CHECKING:
    from graphrewrite.bridge.build import Weighed


def expand(node: gs.Node, shared: "Weighed") -> Sequence[gs.Node] | None:
    """Return the nodes of an operator's function body, hooked to the node's tensors; None when it has none."""
    domain = domain_name(node.domain)
    function = _local(node, domain, shared) or _defined(node, domain, shared)
    return None if function is None else shared.expansion.body(node, function)


def _local(node: gs.Node, domain: str, shared: "Weighed") -> FunctionProto | None:
    for function in shared.model.functions:
        if (function.domain, function.name) == (domain, node.op):
            return function
    return None


def _defined(node: gs.Node, domain: str, shared: "Weighed") -> FunctionProto | None:
    """Return the body that onnx's schema gives, made for the node's inputs where it depends on them."""
    version = shared.version(domain)
    try:
        schema = get_schema(node.op, version, domain)
    except SchemaError:
        return None
    known = cast(Any, schema)  # onnx's own annotations leave out what follows
    function = FunctionProto()
    if (held := _newest(known.function_opset_versions, version)) is not None:
        function.ParseFromString(known.get_function_with_opset_version(held))
        return function
    held = _newest(known.context_dependent_function_opset_versions, version)
    if held is None:
        return None
    proto = NodeProto()
    node_to_proto(node, proto)
    types = [_type_of(tensor, shared) for tensor in node.inputs]
    # onnx writes such bodies from the types it is given, and dies of one that says nothing.
    if any(tensor.name and not kind.ByteSize() for tensor, kind in zip(node.inputs, types, strict=True)):
        return None
    written = known.get_context_dependent_function_with_opset_version(
        held, proto.SerializeToString(), [kind.SerializeToString() for kind in types]
    )
    if not written:
        return None
    function.ParseFromString(written)
    return function


def _newest(versions: Sequence[int], version: int) -> int | None:
    return max((held for held in versions if held <= version), default=None)


def _type_of(tensor: gs.Tensor, shared: "Weighed") -> TypeProto:
    """Return what is known of a tensor's type in onnx's own form."""
    found = TypeProto()
    dtype = shared.info.dtype(tensor.name) if tensor.name else None
    if dtype is None and isinstance(tensor, gs.Constant):
        dtype = np.dtype(tensor.dtype)
    if dtype is None:
        return found
    found.tensor_type.elem_type = numpy_dtype_to_onnx(dtype)
    shape = shared.info.shape(tensor.name)
    if shape is not None:
        found.tensor_type.shape.SetInParent()
        for size in shape:
            dim = found.tensor_type.shape.dim.add()
            if isinstance(size, int):
                dim.dim_value = size
    return found
