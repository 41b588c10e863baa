"""Functions written out under other operator sets, refused, in great number, and in random libraries."""

import random

import numpy as np
import onnx
import pytest
from onnx import FunctionProto, ModelProto, NodeProto, helper
from onnx.inliner import inline_local_functions

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Model, infer
from graphrewrite.ir.inline import inlined
from tests.engine.ir.functions import TWICE, calling, expanded, function, ops, referring, run
from tests.engine.ir.protos import backend_cases, graph, info, node, tensor

X = np.asarray([-1.5, 0.25, 3.0], np.float32)


# ------------------------------------------------------------------------------------------- other operator sets


def test_another_opset_with_the_same_operators_is_no_obstacle() -> None:
    old = function("Twice", ["a"], ["c"], TWICE.node, opset=14)  # Add and Relu are since 14
    assert ops(expanded(calling([node("Twice", ["x"], ["y"], domain="my")], [old]))) == ["Add", "Relu"]


def test_a_function_that_means_something_else_under_our_opset_stays() -> None:
    """Softmax of opset 11 flattens; that of 13 works on one axis."""
    old = function(
        "Old",
        ["a"],
        ["b"],
        [node("Softmax", ["a"], ["b"]), node("Inner", ["b"], ["i"], domain="my")],
        opset=11,
    )
    inner = function("Inner", ["a"], ["b"], [node("Relu", ["a"], ["b"])])
    nodes = [node("Old", ["x"], ["h"], domain="my"), node("Twice", ["h"], ["y"], domain="my")]
    result = inlined(Model.from_proto(calling(nodes, [old, inner, TWICE])))
    assert [each.op for each in result.nodes()] == ["Old", "Add", "Relu"]
    assert [f.name for f in result.functions] == ["Old", "Inner"]
    assert result.opsets == {"": 21, "my": 1}
    alone = Model.from_proto(calling([node("Old", ["x"], ["y"], domain="my")], [old, inner]))
    assert inlined(alone) is alone


def test_domains_a_function_brings_are_imported() -> None:
    inner = node("Gelu", ["a"], ["b"], domain="com.microsoft")
    fast = helper.make_function(
        "my", "Fast", ["a"], ["b"], [inner], [helper.make_opsetid("com.microsoft", 1)]
    )
    after = expanded(calling([node("Fast", ["x"], ["y"], domain="my")], [fast]))
    assert [(entry.domain, entry.version) for entry in after.opset_import] == [("", 21), ("com.microsoft", 1)]


# -------------------------------------------------------------------------------------------------- what is refused


def test_recursion_is_refused() -> None:
    one = function("One", ["a"], ["b"], [node("Two", ["a"], ["b"], domain="my")])
    then = graph([node("One", ["a"], ["t"], domain="my")], [], [info("t", None)])
    two = function("Two", ["a"], ["b"], [node("If", ["a"], ["b"], then_branch=then, else_branch=then)])
    for ask in (inlined, infer):  # neither walks round and round
        with pytest.raises(InvalidModel, match="calls itself"):
            ask(Model.from_proto(calling([node("One", ["x"], ["y"], domain="my")], [one, two])))


def test_a_function_that_calls_itself_is_refused() -> None:
    one = function("One", ["a"], ["b"], [node("One", ["a"], ["b"], domain="my")])
    for ask in (inlined, infer):
        with pytest.raises(InvalidModel, match=r"my::One calls itself \(through my::One\)"):
            ask(Model.from_proto(calling([node("One", ["x"], ["y"], domain="my")], [one])))


# ------------------------------------------------------------------------------------------------- weights, scale


def test_weights_are_not_copied() -> None:
    values = np.arange(3, dtype=np.float32).repeat(1000)
    nodes = [node("Add", ["x", "w"], ["h"]), node("Twice", ["h"], ["y"], domain="my")]
    m = Model.from_proto(calling(nodes, [TWICE], tensor("w", values)))
    result = inlined(m)
    assert np.shares_memory(m.weights["w"], result.weights["w"])


def test_three_thousand_calls_of_one_weight() -> None:
    """One constant read by every call: taking the calls out one at a time would be quadratic."""
    scale = function("Scale", ["a", "w"], ["b"], [node("Mul", ["a", "w"], ["b"])])
    names = ["x", *(f"h{i}" for i in range(2999)), "y"]
    nodes = [node("Scale", [a, "w"], [b], domain="my") for a, b in zip(names, names[1:], strict=False)]
    result = inlined(Model.from_proto(calling(nodes, [scale], tensor("w", 1))))
    assert len(result.nodes("Mul")) == 3000
    assert len(result.graph.initializers["w"].outputs) == 3000


# ---------------------------------------------------------------------------------------------- random libraries


def library(seed: int) -> ModelProto:
    """Functions that call those before them, some nodes in bodies, called from a graph and from its body."""
    draw = random.Random(seed)
    functions: list[FunctionProto] = []

    def nodes_over(names: list[str], count: int, stem: str) -> list[NodeProto]:
        made = []
        for i in range(count):
            out = f"{stem}{i}"
            kind = draw.choice(["Add", "Sub", "Max", "call", "call", "If"])
            pair = [draw.choice(names), draw.choice(names)]
            if kind == "call" and functions:
                used = draw.choice(functions)
                made.append(node(used.name, pair, [out], domain="my", name=draw.choice(["", f"call{i}"])))
                if draw.random() < 0.5:
                    made[-1].attribute.append(helper.make_attribute("alpha", draw.choice([0.5, 2.0])))
            elif kind == "If" and len(stem) < 3:
                bodies = [nodes_over(names, draw.randrange(1, 3), stem + letter) for letter in "te"]
                branches = [graph(body, [], [info(body[-1].output[0], None)]) for body in bodies]
                made.append(
                    node("Constant", [], [f"{stem}c{i}"], value=tensor("", draw.random() < 0.5, bool))
                )
                made.append(
                    node("If", [f"{stem}c{i}"], [out], then_branch=branches[0], else_branch=branches[1])
                )
            else:
                made.append(node(kind if kind in ("Add", "Sub", "Max") else "Mean", pair, [out]))
            names = [*names, out]
        return made

    for index in range(4):
        inner = nodes_over(["a", "b"], draw.randrange(1, 4), "n")
        inner.append(referring(node("Elu", [inner[-1].output[0]], ["r"]), alpha="alpha"))
        made = function(f"F{index}", ["a", "b"], ["r"], inner, [], [helper.make_attribute("alpha", 1.5)])
        functions.append(made)
    nodes = nodes_over(["x", "w"], 5, "m")
    nodes.append(node("F3", [nodes[-1].output[0], "x"], ["y"], domain="my"))
    return calling(nodes, functions, tensor("w", [0.5]))


def test_random_libraries_compute_the_same_bits() -> None:
    counts = []
    for seed in range(25):
        proto = library(seed)
        after = expanded(proto)
        expected = inline_local_functions(proto)
        assert ops(after) == ops(expected), seed
        counts.append(len(after.graph.node) - len(proto.graph.node))
    assert sum(counts) > 200


@pytest.mark.slow
def test_the_function_bodies_of_onnx_compute_what_their_operators_do() -> None:
    """Each operator that onnx defines by a function becomes a local function under its own test data."""
    ran = []
    for name, proto, sets in backend_cases():
        if len(proto.graph.node) != 1 or proto.functions or not sets:
            continue
        (call,) = proto.graph.node
        version = next(entry.version for entry in proto.opset_import if entry.domain == call.domain)
        schema = (
            onnx.defs.get_schema(call.op_type, version, call.domain)
            if onnx.defs.has(call.op_type, call.domain)
            else None
        )
        if schema is None or call.domain or not schema.function_body.node:
            continue
        local = ModelProto()
        local.CopyFrom(proto)
        body = FunctionProto()
        body.CopyFrom(schema.function_body)
        body.domain = local.graph.node[0].domain = "my"
        body.ClearField("opset_import")
        body.opset_import.extend([helper.make_opsetid("", version), helper.make_opsetid("my", 1)])
        local.functions.append(body)
        local.opset_import.append(helper.make_opsetid("my", 1))
        feeds = {declared.name: value for declared, value in zip(proto.graph.input, sets[0][0], strict=False)}
        try:
            expected = run(local, **feeds)
        except Exception:
            continue  # onnxruntime cannot run this one
        result = inlined(Model.from_proto(local))
        assert not result.functions
        for one, two in zip(expected, run(result.to_proto(), **feeds), strict=True):
            assert np.array_equal(
                np.asarray(one), np.asarray(two), equal_nan=np.asarray(one).dtype.kind == "f"
            ), name
        ran.append(call.op_type)
    assert len(set(ran)) > 15


# ------------------------------------------------------------------------------------------- the oracles can fail


def test_a_wrong_expansion_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = calling([node("Twice", ["x"], ["y"], domain="my")], [TWICE])
    wrong = ModelProto()
    wrong.CopyFrom(proto)
    wrong.functions[0].node[0].op_type = "Mul"
    monkeypatch.setattr("tests.engine.ir.functions.inlined", lambda m: inlined_of(wrong))
    with pytest.raises(AssertionError):
        expanded(proto)


def inlined_of(proto: ModelProto) -> Model:
    from graphrewrite.ir import inline

    return inline.inlined(Model.from_proto(proto))
