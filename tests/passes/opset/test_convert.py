"""Whole models: bodies, functions, other domains, what is kept, and the way down."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphrewrite import Context, Model, Pipeline
from graphrewrite.custom_ops import ops
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Builder
from graphrewrite.ir.edit import all_nodes
from graphrewrite.passes.opset import ConvertOpset, converted
from graphrewrite.pipeline import compare
from graphrewrite.runtime import run
from tests.passes.tidy.cases import operators, prove_same


def info(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def with_body() -> Model:
    """x [3, 4, 5]: an If whose branches are a Softmax over two axes and a Clip."""
    soft = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["a"], "soft")], "t", [], [info("a", [3, 4, 5])]
    )
    clip = helper.make_graph(
        [helper.make_node("Clip", ["x"], ["b"], "clip", min=0.0)], "e", [], [info("b", [3, 4, 5])]
    )
    choice = helper.make_node("If", ["c"], ["y"], "choice", then_branch=soft, else_branch=clip)
    inputs = [info("x", [3, 4, 5]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    graph = helper.make_graph([choice], "g", inputs, [info("y", [3, 4, 5])])
    return Model.from_proto(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5)
    )


def test_bodies_are_converted_too() -> None:
    model = with_body()

    after = converted(model, 17).model

    ops = sorted(node.op for node in all_nodes(after.graph))
    assert ops == ["Clip", "Flatten", "If", "Reshape", "Shape", "Softmax"]
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    for c in (True, False):
        feeds = {"x": x, "c": np.array(c)}
        assert max(compare(run(model, feeds), run(after, feeds)).values()) < 1e-6
    whole = np.exp(x) / np.exp(x).sum((1, 2), keepdims=True)
    assert max(compare({"y": whole}, run(after, {"x": x, "c": np.array(True)})).values()) < 1e-5


def calling(op: str, **attrs: object) -> Model:
    """x -> a local function of one operator -> Exp."""
    body = helper.make_node(op, ["a"], ["b"], "inner", **attrs)  # type: ignore[arg-type]
    function = helper.make_function("local", "Block", ["a"], ["b"], [body], [helper.make_opsetid("", 12)])
    nodes = [
        helper.make_node("Block", ["x"], ["m"], "call", domain="local"),
        helper.make_node("Exp", ["m"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [info("x", [3, 4, 5])], [info("y", [3, 4, 5])])
    opsets = [helper.make_opsetid("", 12), helper.make_opsetid("local", 1)]
    return Model.from_proto(
        helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)
    )


def test_a_function_whose_nodes_may_stay_stays_a_function() -> None:
    model = calling("Relu")

    after = converted(model, 21).model

    assert [entry.version for entry in after.functions[0].opset_import] == [21]
    assert [entry.version for entry in model.functions[0].opset_import] == [12]
    assert operators(after) == "Block Exp"
    prove_same(model, after)


def test_a_function_whose_nodes_may_not_is_written_out() -> None:
    model = calling("Softmax")

    after = converted(model, 21).model

    assert not after.functions
    assert operators(after) == "Exp Flatten Reshape Shape Softmax"
    prove_same(model, after)


def test_bodies_of_our_own_operators_go_along() -> None:
    b = Builder(13)
    model = b.model(b.relu(b.input([2], "x")))
    model.functions = [spec.function(13) for spec in ops().values()]

    after = converted(model, 21).model

    assert len(after.functions) == len(ops())
    assert {entry.version for function in after.functions for entry in function.opset_import} == {21}


def test_what_does_not_belong_to_the_operator_set_is_kept(tmp_path: Path) -> None:
    b = Builder(11)
    x = b.input(["N", 64], "x")
    soft = b.op("Softmax", x, name="soft")
    y = b.op("FusedGemm", soft, b.weight(64, 64), name="fused", domain="com.microsoft", activation="Relu")
    model = b.model(y)
    model.metadata["author"] = "somebody"
    model.graph.doc_string = "about it"
    model.save(tmp_path / "inline.onnx")
    onnx.save(
        onnx.load(tmp_path / "inline.onnx"),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        size_threshold=0,
        convert_attribute=False,
    )
    model = Model.load(tmp_path / "m.onnx")

    done = converted(model, 21)

    after = done.model
    assert after.opsets == {"": 21, "com.microsoft": 1} and after.metadata == {"author": "somebody"}
    assert after.graph.doc_string == "about it" and after.ir_version == model.ir_version
    assert [(node.op, node.name, node.outputs[0].name) for node in after.nodes()] == [
        (node.op, node.name, node.outputs[0].name) for node in model.nodes()
    ]
    assert done.rewritten == {"Softmax": ["soft"]}
    after.save(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").exists()
    prove_same(model, Model.load(tmp_path / "out.onnx"))


def test_the_way_down_where_nodes_may_stay() -> None:
    b = Builder(21)
    x = b.input(["N", 3, 8, 8], "x")
    model = b.model(b.op("ReduceMax", b.relu(b.conv(x, 4, 3)), keepdims=0))

    done = converted(model, 18)

    assert done.model.opset == 18 and not done.rewritten
    prove_same(model, done.model)


@pytest.mark.parametrize(
    ("draw", "to", "why"),
    [
        (lambda b, x: b.op("Gelu", x, name="it"), 17, "does not have it"),
        (lambda b, x: b.op("LayerNormalization", x, b.weight(3), name="it"), 16, "does not have it"),
        (lambda b, x: b.op("Softmax", x, name="it"), 12, "there is no way back"),
        (
            lambda b, x: b.op("Reshape", x, b.constant(np.array([6])), name="it", allowzero=1),
            13,
            "no attribute allowzero",
        ),
    ],
    ids=["unknown", "early", "other form", "attribute"],
)
def test_the_way_down_is_refused_by_name_and_reason(draw: object, to: int, why: str) -> None:
    b = Builder(21)
    model = b.model(draw(b, b.input([2, 3], "x")))  # type: ignore[operator]
    with pytest.raises(UnsupportedOp, match=rf"cannot go from operator set 21 to {to}: 'it' .*{why}"):
        converted(model, to)


def test_the_pipeline_proves_it_and_the_notes_say_what_was_done() -> None:
    result = Pipeline([ConvertOpset(19)]).run(with_body())

    (step,) = result.report.steps
    assert result.model.opset == 19 and step.verified.how == "same"
    notes = {note.subject: note.text for note in result.notes}
    assert notes["operator set"] == "from 10 to 19"
    assert notes["Softmax"] == "1 in another form: soft"
    assert step.details["rewritten"] == {"Softmax": 1, "Clip": 1}


def test_a_model_that_is_there_already_is_left_alone() -> None:
    model = with_body()
    outcome = ConvertOpset(10).run(model, Context())
    assert outcome.model is model and not outcome.changed
