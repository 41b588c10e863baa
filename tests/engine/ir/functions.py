"""Model-local functions for tests: made, called, run and written out."""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, TensorProto, helper
from onnx.inliner import inline_local_functions

from graphrewrite.ir import Model
from graphrewrite.ir.check import check
from graphrewrite.ir.inline import inlined
from tests.engine.ir.protos import Array, info, model, node, same
from tests.engine.ir.random_graphs import broken_links

X = np.asarray([-1.5, 0.25, 3.0], np.float32)


def function(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    nodes: Sequence[NodeProto],
    attributes: Sequence[str] = (),
    defaults: Sequence[AttributeProto] = (),
    opset: int = 21,
    domain: str = "my",
    overload: str = "",
) -> FunctionProto:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("my", 1)]
    made = helper.make_function(
        domain, name, inputs, outputs, nodes, imports, list(attributes), list(defaults)
    )
    made.overload = overload
    return made


def referring(made: NodeProto, **names: str) -> NodeProto:
    """Let attributes of a node be those of the call: attribute=name."""
    kinds = {"alpha": AttributeProto.FLOAT, "axis": AttributeProto.INT, "value_ints": AttributeProto.INTS}
    for attribute, name in names.items():
        kind = kinds.get(attribute, AttributeProto.GRAPH)
        made.attribute.append(AttributeProto(name=attribute, ref_attr_name=name, type=kind))
    return made


def calling(
    nodes: Sequence[NodeProto],
    functions: Sequence[FunctionProto],
    *tensors: TensorProto,
    outputs: Sequence[str] = ("y",),
) -> ModelProto:
    return model(
        nodes,
        [info("x", ["N"])],
        [info(o, None) for o in outputs],
        tensors,
        functions=functions,
        domains=["my"],
    )


def run(proto: ModelProto, **feeds: Array) -> list[Array]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, feeds or {"x": X})
    return found


def expanded(proto: ModelProto, *left: str) -> ModelProto:
    """Inline, and check all there is to check: soundness, links, results; `left` are the functions to be left."""
    original = Model.from_proto(proto)
    result = inlined(original)
    assert result is not original
    assert same(original.to_proto(), proto)
    check(result)
    assert broken_links(result) == []
    assert [f.name for f in result.functions] == list(left)
    after = result.to_proto()
    try:
        expected = run(proto)
    except Exception:  # onnxruntime has its own gaps with functions: overloads, calls that leave out outputs
        expected = run(inline_local_functions(proto))
    for one, two in zip(expected, run(after), strict=True):
        assert one.dtype == two.dtype and one.tobytes() == two.tobytes() and one.shape == two.shape
    return after


def ops(proto: ModelProto) -> list[str]:
    return [each.op_type for each in proto.graph.node]


ELU = function(
    "Soft", ["a"], ["b"], [referring(node("Elu", ["a"], ["b"], name="elu"), alpha="slope")], ["slope"]
)
TWICE = function(
    "Twice", ["a"], ["c"], [node("Add", ["a", "a"], ["b"], name="sum"), node("Relu", ["b"], ["c"])]
)
