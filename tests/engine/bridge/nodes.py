"""Models of one node, run through the bridge, through onnxruntime and through onnx's own evaluator."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper
from onnx.reference import ReferenceEvaluator

from graphrewrite.bridge import GraphModule
from graphrewrite.ir import Array, Model
from tests.engine.bridge.backend import difference, with_weights

Given = Sequence["Array | None"]


def node_model(
    op: str,
    given: Given,
    outputs: int = 1,
    attributes: Mapping[str, object] | None = None,
    *,
    domain: str = "",
    opset: int = 21,
) -> onnx.ModelProto:
    """Return a model of one node fed with inputs x0, x1 ... (None leaves one out) that makes y0, y1 ..."""
    names = ["" if value is None else f"x{i}" for i, value in enumerate(given)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], domain=domain)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in (attributes or {}).items())
    graph = helper.make_graph(
        [node],
        "one_node",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), list(value.shape)
            )
            for name, value in zip(names, given, strict=True)
            if value is not None
        ],
        [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)],
    )
    sets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=sets, ir_version=10)


def feeds(given: Given) -> dict[str, Array]:
    """Return what is fed by name."""
    return {f"x{i}": np.asarray(value) for i, value in enumerate(given) if value is not None}


def bridged(proto: onnx.ModelProto, given: Given) -> list[Array]:
    """Run through the bridge."""
    found = GraphModule(Model.from_proto(proto)).eval().run(feeds(given))
    return [np.asarray(value) for value in found.values()]


def by_onnxruntime(proto: onnx.ModelProto, given: Given) -> list[Array]:
    """Run in onnxruntime."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feeds(given))]


def by_reference(proto: onnx.ModelProto, given: Given) -> list[Array]:
    """Run in onnx's own evaluator."""
    return [np.asarray(value) for value in ReferenceEvaluator(proto).run(None, feeds(given))]


def same(found: Sequence[Array], wanted: Sequence[Array], rtol: float = 1e-5, atol: float = 1e-5) -> bool:
    """Whether outputs agree in number, type, shape and numbers; prints how they do not."""
    why = [difference(w, f, rtol, atol) for f, w in zip(found, wanted, strict=True)]
    if any(why):
        print(why)
    return not any(why)


def agrees(
    op: str,
    given: Given,
    outputs: int = 1,
    attributes: Mapping[str, object] | None = None,
    *,
    opset: int = 21,
    judge: Callable[[onnx.ModelProto, Given], list[Array]] = by_onnxruntime,
) -> bool:
    """Whether a node gives what `judge` gives, with its other inputs fed and with them as constants."""
    proto = node_model(op, given, outputs, attributes, opset=opset)
    wanted = judge(proto, given)
    frozen = with_weights(proto, feeds(given))
    return same(bridged(proto, given), wanted) and same(bridged(frozen, given), wanted)
