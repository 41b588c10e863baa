"""Functions written out: onnxruntime, which does it by itself when loading, must compute the same bits."""

import random
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, TensorProto, helper
from onnx.inliner import inline_local_functions

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Model, infer
from graphrewrite.ir.check import check
from graphrewrite.ir.inline import inlined
from tests.engine.ir.protos import Array, backend_cases, graph, info, model, node, same, tensor
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
    monkeypatch.setattr(f"{__name__}.inlined", lambda m: inlined_of(wrong))
    with pytest.raises(AssertionError):
        expanded(proto)


def inlined_of(proto: ModelProto) -> Model:
    from graphrewrite.ir import inline

    return inline.inlined(Model.from_proto(proto))
