"""Models that are not sound, one fault each, in the main graph, in functions and in bodies."""

from collections.abc import Callable

import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper

from graphrewrite.ir import Model
from graphrewrite.ir.check import check
from tests.engine.ir.checked import branch, chain, complaint
from tests.engine.ir.protos import graph, info, node, tensor

X, Y, C = info("x"), info("y"), info("c", [], TensorProto.BOOL)


# --------------------------------------------------------------------------------------------------- what is not


def new_ir(proto: ModelProto) -> None:
    proto.ir_version = 99


def no_ir(proto: ModelProto) -> None:
    proto.ClearField("ir_version")


def new_opset(proto: ModelProto) -> None:
    proto.opset_import[0].version = 999


def zero_opset(proto: ModelProto) -> None:
    proto.opset_import[0].version = 0


def new_ml_opset(proto: ModelProto) -> None:
    proto.opset_import.add(domain="ai.onnx.ml", version=77)


def operator_newer_than_the_opset(proto: ModelProto) -> None:
    proto.opset_import[0].version = 17
    proto.graph.node[0].op_type = "Gelu"


def domain_not_imported(proto: ModelProto) -> None:
    proto.graph.node[0].domain = "of.nobody"


def read_nowhere_made(proto: ModelProto) -> None:
    proto.graph.node[1].input[0] = "ghost"


def not_sorted(proto: ModelProto) -> None:
    nodes = list(proto.graph.node)
    proto.graph.ClearField("node")
    proto.graph.node.extend(reversed(nodes))


def cycle(proto: ModelProto) -> None:
    proto.graph.node[0].input[0] = "y"


def reads_itself(proto: ModelProto) -> None:
    proto.graph.node[1].input[0] = "y"


def made_twice(proto: ModelProto) -> None:
    proto.graph.node[1].output[0] = "h"


def input_overwritten(proto: ModelProto) -> None:
    proto.graph.node[1].output[0] = "x"


def initializer_overwritten(proto: ModelProto) -> None:
    proto.graph.initializer.append(tensor("h", [1, 2]))


def input_twice(proto: ModelProto) -> None:
    proto.graph.input.append(X)


def output_nowhere_made(proto: ModelProto) -> None:
    proto.graph.output[0].name = "ghost"


def no_outputs(proto: ModelProto) -> None:
    proto.graph.ClearField("output")


def input_without_type(proto: ModelProto) -> None:
    proto.graph.input[0].ClearField("type")


def input_of_type_zero(proto: ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = 0


def output_of_type_zero(proto: ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.elem_type = 0


def unknown_attribute(proto: ModelProto) -> None:
    proto.graph.node[0].attribute.add(name="foo", i=1, type=AttributeProto.INT)


def attribute_of_another_kind(proto: ModelProto) -> None:
    proto.graph.node[0].op_type = "Elu"
    proto.graph.node[0].attribute.add(name="alpha", i=1, type=AttributeProto.INT)


def attribute_missing(proto: ModelProto) -> None:
    proto.graph.node[0].op_type = "Cast"


def too_many_inputs(proto: ModelProto) -> None:
    proto.graph.node[0].input.append("x")


def too_few_outputs(proto: ModelProto) -> None:
    proto.graph.node[0].ClearField("output")
    proto.graph.node[1].input[0] = "x"


def with_function(proto: ModelProto, *nodes: onnx.NodeProto, name: str = "F") -> None:
    made = helper.make_function(
        "my", name, ["a"], ["b"], list(nodes), [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    )
    proto.functions.append(made)


def function_twice(proto: ModelProto) -> None:
    with_function(proto, node("Relu", ["a"], ["b"]))
    with_function(proto, node("Exp", ["a"], ["b"]))


def function_calls_itself(proto: ModelProto) -> None:
    with_function(proto, node("G", ["a"], ["b"], domain="my"))
    with_function(proto, node("H", ["a"], ["b"], domain="my"), name="G")
    with_function(proto, node("F", ["a"], ["b"], domain="my"), name="H")


def function_returns_nothing_made(proto: ModelProto) -> None:
    with_function(proto, node("Relu", ["a"], ["c"]))


def function_reads_nothing_made(proto: ModelProto) -> None:
    with_function(proto, node("Relu", ["ghost"], ["b"]))


BAD = [
    (new_ir, "IR version 99"), (no_ir, "IR version 0"), (new_opset, "version 999"), (zero_opset, "version 0"),
    (new_ml_opset, "version 77 of the operator set ai.onnx.ml"), (operator_newer_than_the_opset, "Gelu"),
    (domain_not_imported, "of.nobody"), (read_nowhere_made, "'second' reads 'ghost', which nothing makes"),
    (not_sorted, "'second' reads 'h' before the node that makes it"), (cycle, "depends on its own output"),
    (reads_itself, "'second' depends on its own output"),
    (made_twice, "'h' of the graph is made twice, by the node 'first' and by the node 'second'"),
    (input_overwritten, "'x' of the graph is made twice, by the input 'x' and by the node 'second'"),
    (initializer_overwritten, "'h' of the graph is made twice, by an initializer and by the node 'first'"),
    (input_twice, "'x' of the graph is made twice"), (output_nowhere_made, "makes its output 'ghost'"),
    (no_outputs, "no outputs"), (input_without_type, "input 'x' has no element type"),
    (input_of_type_zero, "input 'x' has no element type"), (output_of_type_zero, "output 'y' has no element type"),
    (unknown_attribute, "foo"), (attribute_of_another_kind, "alpha"), (attribute_missing, "to"),
    (too_many_inputs, "input size 2"), (too_few_outputs, "output size 0"), (function_twice, "my::F is defined twice"),
    (function_calls_itself, "calls itself"), (function_returns_nothing_made, "my::F returns 'b'"),
    (function_reads_nothing_made, "ghost"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), BAD, ids=lambda value: getattr(value, "__name__", ""))
def test_not_sound(change: Callable[[ModelProto], None], words: str) -> None:
    proto = chain()
    check(Model.from_proto(proto))
    change(proto)
    assert words in complaint(proto)


BODIES = {
    "reads nothing made": (
        graph([node("Relu", ["ghost"], ["t"], name="in")], [], [info("t")]),
        "'in' reads 'ghost'",
    ),
    "reads what comes later": (
        graph([node("Relu", ["u"], ["t"], name="in"), node("Relu", ["x"], ["u"])], [], [info("t")]),
        "'in' reads 'u' before",
    ),
    "reads what its node makes": (
        graph([node("Relu", ["y"], ["t"], name="in")], [], [info("t")]),
        "'in' reads 'y' before",
    ),
    "returns a tensor of outside": (graph([], [], [X]), "a body of the node 'if' makes its output 'x'"),
    "makes a tensor twice": (
        graph([node("Relu", ["x"], ["t"]), node("Exp", ["x"], ["t"])], [], [info("t")]),
        "a body of the node 'if' is made twice",
    ),
    "makes a tensor of outside again": (
        graph([node("Relu", ["x"], ["c"])], [], [info("c")]),
        "single static assignment",
    ),
    "holds a bad node": (graph([node("Relu", [], ["t"])], [], [info("t")]), "Relu"),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_checked_too(name: str) -> None:
    body, words = BODIES[name]
    assert words in complaint(branch(body))


def test_a_sound_body_is_sound() -> None:
    inner = graph([node("Add", ["x", "own"], ["t"])], [], [info("t")], [tensor("own", [1, 2])])
    check(Model.from_proto(branch(inner)))
    deep = graph([node("If", ["c"], ["d"], then_branch=inner, else_branch=inner)], [], [info("d")])
    check(Model.from_proto(branch(deep)))
