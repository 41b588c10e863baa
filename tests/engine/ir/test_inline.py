"""Functions written out: onnxruntime, which does it by itself when loading, must compute the same bits."""

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, helper

from graphrewrite.ir import Model
from graphrewrite.ir.check import check
from graphrewrite.ir.inline import inlined
from tests.engine.ir.functions import ELU, TWICE, calling, expanded, function, ops, referring, run
from tests.engine.ir.protos import graph, info, node, tensor
from tests.engine.ir.random_graphs import broken_links

X = np.asarray([-1.5, 0.25, 3.0], np.float32)


# ------------------------------------------------------------------------------------------------ what stays as it is


@pytest.mark.parametrize("functions", [[], [TWICE]])
def test_without_a_call_the_model_itself_comes_back(functions: list[FunctionProto]) -> None:
    proto = calling([node("Gelu", ["x"], ["y"]), node("Twice", ["x"], [""], domain="other")], functions)
    m = Model.from_proto(proto)
    assert inlined(m) is m


def test_functions_of_schemas_are_left_alone() -> None:
    after = expanded(calling([node("Gelu", ["x"], ["h"]), node("Twice", ["h"], ["y"], domain="my")], [TWICE]))
    assert ops(after) == ["Gelu", "Add", "Relu"]


def test_a_function_in_place_of_an_operator_of_onnx_counts() -> None:
    square = function("Relu", ["a"], ["b"], [node("Mul", ["a", "a"], ["b"])], domain="")
    after = inlined(
        Model.from_proto(calling([node("Relu", ["x"], ["y"], domain="ai.onnx")], [square]))
    ).to_proto()
    assert ops(after) == ["Mul"]


# ----------------------------------------------------------------------------------------------------- one call


def test_names_speak_of_the_call() -> None:
    after = expanded(calling([node("Twice", ["x"], ["y"], name="block1", domain="my")], [TWICE]))
    assert [each.name for each in after.graph.node] == ["block1/sum", "block1/Relu"]
    assert [list(each.output) for each in after.graph.node] == [["block1/b"], ["y"]]
    assert [(entry.domain, entry.version) for entry in after.opset_import] == [("", 21)]


def test_names_never_collide() -> None:
    nodes = [node("Twice", ["x"], ["Twice/b"], domain="my"), node("Twice", ["Twice/b"], ["Twice"], domain="my"),
             node("Twice", ["Twice"], ["y"], domain="my")]  # fmt: skip
    after = expanded(calling(nodes, [TWICE]))
    made = [name for each in after.graph.node for name in each.output]
    assert len(set(made)) == 6
    assert len({each.name for each in after.graph.node}) == 6


def test_attributes_of_the_call_its_defaults_and_neither() -> None:
    given = function("G", ["a"], ["b"], [referring(node("Elu", ["a"], ["b"]), alpha="s")], ["s"])
    default = function(
        "D",
        ["a"],
        ["b"],
        [referring(node("Elu", ["a"], ["b"]), alpha="s")],
        [],
        [helper.make_attribute("s", 0.5)],
    )
    nodes = [
        node("G", ["x"], ["a"], domain="my", s=3.0),
        node("G", ["a"], ["b"], domain="my"),
        node("D", ["b"], ["c"], domain="my"),
        node("D", ["c"], ["y"], domain="my", s=2.0),
    ]
    after = expanded(calling(nodes, [given, default]))
    assert [[a.f for a in each.attribute] for each in after.graph.node] == [[3.0], [], [0.5], [2.0]]


def test_an_empty_list_keeps_its_kind() -> None:
    shape = function("S", [], ["b"], [referring(node("Constant", [], ["b"]), value_ints="v")], ["v"])
    call = node("S", [], ["s"], domain="my")
    call.attribute.append(AttributeProto(name="v", type=AttributeProto.INTS))
    after = expanded(calling([call, node("Reshape", ["w", "s"], ["y"])], [shape], tensor("w", [5])))
    assert after.graph.node[0].attribute[0].type == AttributeProto.INTS


def test_inputs_and_outputs_that_are_left_out() -> None:
    body = [node("Clip", ["a", "low", "high"], ["b"]), node("Split", ["a"], ["s", "t", "u"], num_outputs=3)]
    some = function("Some", ["a", "low", "high"], ["s", "b", "t", "u"], body)
    nodes = [
        node("Some", ["x", "", "one"], ["", "b"], domain="my"),
        node("Some", ["b", "one"], ["s", "", "", "y"], domain="my"),
    ]
    after = expanded(calling(nodes, [some], tensor("one", 1), outputs=["y", "s", "b"]))
    assert [list(each.input) for each in after.graph.node if each.op_type == "Clip"] == [
        ["x", "", "one"],
        ["b", "one", ""],
    ]


def test_an_input_returned_and_a_result_returned_twice() -> None:
    odd = function("Odd", ["a"], ["a", "b", "b"], [node("Relu", ["a"], ["b"])])
    with_outputs = calling(
        [node("Odd", ["x"], ["y", "z", "u"], domain="my", name="o")], [odd], outputs=["y", "z", "u"]
    )
    result = inlined(Model.from_proto(with_outputs))
    check(result)
    one, two, three = run(result.to_proto())
    assert (one.tolist(), two.tolist(), three.tolist()) == (X.tolist(), [0, 0.25, 3], [0, 0.25, 3])
    assert ops(result.to_proto()) == ["Relu", "Identity", "Identity"]


def test_notes_and_declarations_come_along() -> None:
    noted = function("Twice", ["a"], ["c"], TWICE.node)
    noted.node[0].doc_string = "kept"
    noted.node[0].metadata_props.add(key="k", value="v")
    noted.value_info.extend([info("b", ["N", "M", 3]), info("a", ["K"])])
    after = expanded(calling([node("Twice", ["x"], ["y"], name="t", domain="my")], [noted]))
    assert (after.graph.node[0].doc_string, after.graph.node[0].metadata_props[0].value) == ("kept", "v")
    # N is a size of the model's input; M means nothing outside the function.
    assert list(after.graph.value_info) == [info("t/b", ["N", None, 3])]


# --------------------------------------------------------------------------------------------------- many calls


def test_functions_in_functions_and_overloads() -> None:
    first = function("F", ["a"], ["b"], [node("Neg", ["a"], ["b"], name="n")], overload="one")
    second = function("F", ["a"], ["b"], [node("Exp", ["a"], ["b"], name="e")], overload="two")
    outer = function(
        "Outer", ["a"], ["d"],
        [node("F", ["a"], ["b"], domain="my", overload="two", name="f"),
         node("Twice", ["b"], ["c"], domain="my", name="t"),
         referring(node("Soft", ["c"], ["d"], domain="my", name="s"), slope="s")],
        ["s"],
    )  # fmt: skip
    outer.node[2].attribute[0].type = AttributeProto.FLOAT
    nodes = [
        node("F", ["x"], ["h"], domain="my", overload="one"),
        node("Outer", ["h"], ["y"], domain="my", name="o", s=0.5),
    ]
    after = expanded(calling(nodes, [outer, first, second, TWICE, ELU]))
    assert ops(after) == ["Neg", "Exp", "Add", "Relu", "Elu"]
    assert [each.name for each in after.graph.node[1:]] == ["o/f/e", "o/t/sum", "o/t/Relu", "o/s/elu"]
    assert after.graph.node[-1].attribute[0].f == 0.5


def in_body(then: Sequence[NodeProto]) -> ModelProto:
    other = graph([node("Neg", ["x"], ["e"])], [], [info("e", None)])
    branch = graph(then, [], [info("t", None)])
    nodes = [
        node("Less", ["zero", "one"], ["c"]),
        node("If", ["c"], ["y"], then_branch=branch, else_branch=other),
    ]
    return calling(nodes, [TWICE, ELU], tensor("zero", 0), tensor("one", 1))


def test_calls_inside_bodies() -> None:
    after = expanded(
        in_body([node("Twice", ["x"], ["h"], domain="my"), node("Twice", ["h"], ["t"], domain="my")])
    )
    branch = next(a.g for a in after.graph.node[1].attribute if a.name == "then_branch")
    assert [each.op_type for each in branch.node] == ["Add", "Relu", "Add", "Relu"]


def test_bodies_inside_functions_get_names_of_their_own() -> None:
    then = graph(
        [node("Mul", ["a", "k"], ["m"]), node("Soft", ["m"], ["r"], domain="my")],
        [],
        [info("r", None)],
        [tensor("k", 2)],
    )
    referring(then.node[1], slope="s").attribute[0].type = AttributeProto.FLOAT
    other = graph([node("Add", ["a", "h"], ["r2"])], [], [info("r2", None)], [tensor("unused", [0])])
    body = [node("Neg", ["a"], ["h"]), node("If", ["go"], ["b"], then_branch=then, else_branch=other)]
    choose = function("Choose", ["a", "go"], ["b"], body, ["s"])
    nodes = [
        node("Less", ["x0", "one"], ["yes"]),
        node("Not", ["yes"], ["no"]),
        node("Choose", ["x", "yes"], ["h"], domain="my", name="p", s=0.5),
        node("Choose", ["h", "no"], ["y"], domain="my", name="q", s=2.0),
    ]
    after = expanded(calling(nodes, [choose, ELU], tensor("x0", 0), tensor("one", 1)))
    bodies = [a.g for each in after.graph.node for a in each.attribute if a.type == AttributeProto.GRAPH]
    made = [name for body in bodies for each in body.node for name in each.output]
    made += [each.name for body in bodies for each in body.initializer]
    assert len(bodies) == 4 and len(made) == len(set(made)) == 10
    assert [a.f for body in bodies for each in body.node for a in each.attribute] == [0.5, 2.0]


def test_a_graph_given_as_an_attribute_keeps_its_captures() -> None:
    wanted = AttributeProto(name="then_branch", ref_attr_name="body", type=AttributeProto.GRAPH)
    inside = node(
        "If", ["go"], ["b"], else_branch=graph([node("Identity", ["a"], ["e"])], [], [info("e", None)])
    )
    inside.attribute.append(wanted)
    take = function("Take", ["a", "go"], ["b"], [inside], ["body"])
    given = graph([node("Add", ["x", "secret"], ["t"])], [], [info("t", None)])
    nodes = [node("Neg", ["x"], ["secret"]), node("Take", ["x", "yes"], ["y"], domain="my", body=given)]
    result = inlined(Model.from_proto(calling(nodes, [take], tensor("yes", True, bool))))
    check(result)
    assert broken_links(result) == []
    assert run(result.to_proto())[0].tolist() == [0, 0, 0]
    add = result.nodes("If")[0].attrs["then_branch"].nodes[0]
    assert add.inputs[1] is result.nodes("Neg")[0].outputs[0]
