"""A model's graph as a proto without the numbers of its large weights: what checkers and comparisons look at."""

from collections.abc import Mapping

import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto

from graphrewrite.ir.codec import graph_to_proto, list_initializers
from graphrewrite.ir.model import Model
from graphrewrite.ir.values import is_sparse, proto_from_constant, stored_type, tensor_bytes

# Weights from this size on are left out. Shapes, axes and the like are far smaller, and checkers need their numbers.
SMALLEST_LEFT_OUT = 16_384


def outline(model: Model) -> onnx.ModelProto:
    """Return the model as a proto in which large initializers of the main graph have no numbers; O(nodes).

    The result says everything else the model says. A checker takes it in the form `checkable` gives it.
    """
    left_out = {id(constant) for constant in model.graph.initializers.values() if _is_large(constant)}

    def encode(constant: gs.Constant) -> TensorProto | onnx.SparseTensorProto:
        if id(constant) not in left_out:
            return proto_from_constant(constant)
        return TensorProto(name=constant.name, data_type=stored_type(constant), dims=constant.shape)

    proto = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.opsets.items():
        proto.opset_import.add(domain=domain, version=version)
    proto.functions.extend(model.functions)
    for key, value in model.metadata.items():
        proto.metadata_props.add(key=key, value=value)
    graph_to_proto(model.graph, encode, proto.graph)
    list_initializers(model.graph, proto)
    return proto


def checkable(proto: onnx.ModelProto, ranks: Mapping[str, int]) -> onnx.ModelProto:
    """Return an outline as a valid model: weights without numbers become inputs, outputs without a shape get a rank.

    `ranks` gives the rank of outputs that declare no shape; those it does not know stay as they are (and the ONNX
    checker refuses them).
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    listed = {info.name for info in result.graph.input}
    kept = []
    for tensor in result.graph.initializer:
        if tensor_bytes(tensor.data_type, tuple(tensor.dims)) < SMALLEST_LEFT_OUT:
            kept.append(tensor)
        elif tensor.name not in listed:
            result.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    result.graph.ClearField("initializer")
    result.graph.initializer.extend(kept)
    for info in result.graph.output:
        kind = info.type.tensor_type
        if info.type.HasField("tensor_type") and not kind.HasField("shape") and info.name in ranks:
            kind.shape.SetInParent()
            for _ in range(ranks[info.name]):
                kind.shape.dim.add()
    return result


def _is_large(constant: gs.Constant) -> bool:
    return (
        not is_sparse(constant)
        and tensor_bytes(stored_type(constant), tuple(constant.shape)) >= SMALLEST_LEFT_OUT
    )
