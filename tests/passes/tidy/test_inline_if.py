from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from graphrewrite import Context, Model
from graphrewrite.passes.tidy import InlineIf, Tidy
from tests.passes.tidy.cases import operators, prove_same, tidied

# Nodes, names of the outputs, initializers.
Branch: TypeAlias = tuple[Sequence[NodeProto], Sequence[str], Mapping[str, npt.NDArray[np.generic]]]


def with_if(
    condition: bool | None,
    then: Branch,
    other: Branch,
    outputs: Sequence[str] = ("y",),
    extra: Sequence[NodeProto] = (),
) -> Model:
    """x [2, 3] -> If(condition) -> y, z = Exp(y); a branch is (nodes, output names, initializers)."""

    def branch(name: str, parts: Branch) -> GraphProto:
        nodes, names, stored = parts
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in names]
        return helper.make_graph(
            nodes, name, [], infos, [numpy_helper.from_array(v, n) for n, v in stored.items()]
        )

    node = helper.make_node(
        "If", ["c"], list(outputs), then_branch=branch("t", then), else_branch=branch("e", other)
    )
    last = [helper.make_node("Exp", [outputs[0]], ["z"]), *extra]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])]
    stored = []
    if condition is None:
        inputs.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    else:
        stored = [numpy_helper.from_array(np.asarray(condition), "c")]
    results = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3])
        for n in ("z", *(e.output[0] for e in extra))
    ]
    graph = helper.make_graph([node, *last], "g", inputs, results, stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    return Model.from_proto(proto)


def node(op: str, inputs: Sequence[str], output: str, perm: Sequence[int] = ()) -> NodeProto:
    attrs = {"perm": list(perm)} if perm else {}
    return helper.make_node(op, inputs, [output], **attrs)  # type: ignore[arg-type]


RELU: Branch = ([node("Relu", ["x"], "inner")], ["inner"], {})
SHIFT: Branch = (
    [node("Add", ["x", "w"], "mid"), node("Neg", ["mid"], "out")],
    ["out"],
    {"w": np.asarray([1, 2, 3], np.float32)},
)


def test_the_branch_that_is_taken_stands_in_its_place() -> None:
    assert operators(tidied(with_if(True, RELU, SHIFT), InlineIf()).model) == "Exp Relu"
    assert operators(tidied(with_if(False, RELU, SHIFT), InlineIf()).model) == "Add Exp Neg"


def test_an_unknown_condition_stays() -> None:
    assert not tidied(with_if(None, RELU, SHIFT), InlineIf()).changed


def test_names_of_a_branch_may_clash_with_those_of_the_graph() -> None:
    clash: Branch = ([node("Relu", ["x"], "a"), node("Neg", ["a"], "b")], ["b"], {})
    model = with_if(True, clash, RELU, extra=[helper.make_node("Abs", ["x"], ["late"])])
    model.nodes("Abs")[0].outputs[0].name = "a"
    result = InlineIf().run(model.clone(), Context()).model
    names = [t.name for n in result.graph.nodes for t in n.outputs]
    assert len(names) == len(set(names)) and "a" in [t.name for t in result.outputs]


def test_a_branch_inside_a_branch_is_inlined_as_well() -> None:
    inner = with_if(False, RELU, SHIFT).to_proto().graph.node[0]
    inner.input[0] = "c2"
    deep: Branch = ([inner], ["y"], {"c2": np.asarray(False)})
    inner.output[0] = "y"
    renamed: Branch = ([*deep[0][:0], inner], ["y"], deep[2])
    inner.output[0] = "deep_y"
    model = with_if(True, (renamed[0], ["deep_y"], renamed[2]), RELU)
    assert operators(tidied(model, InlineIf()).model) == "Add Exp Neg"


def test_a_branch_that_hands_on_an_outer_tensor() -> None:
    hand_on: Branch = ([node("Identity", ["x"], "same")], ["same"], {})
    result = tidied(with_if(True, hand_on, RELU), Tidy()).model
    assert operators(result) == "Exp"


def test_what_comes_out_of_a_branch_is_tidied_too() -> None:
    double: Branch = ([node("Relu", ["x"], "p"), node("Transpose", ["p"], "q", perm=[0, 1])], ["q"], {})
    result = tidied(with_if(True, double, RELU), Tidy()).model
    assert operators(result) == "Exp Relu"


def test_the_proof_notices_the_wrong_branch() -> None:
    right, wrong = with_if(True, RELU, SHIFT), with_if(False, RELU, SHIFT)
    try:
        prove_same(right, wrong)
    except AssertionError:
        return
    raise AssertionError("the two branches compute the same, so this test shows nothing")
