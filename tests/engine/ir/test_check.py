"""`check` says of a model what onnx's checker says, in words that name the culprit, and never needs the weights."""

import sys
from collections.abc import Callable, Iterable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.check import check
from tests.engine.ir.protos import backend_cases, backend_files, graph, info, model, node, tensor

X, Y, C = info("x"), info("y"), info("c", [], TensorProto.BOOL)


def chain() -> ModelProto:
    return model(
        [node("Relu", ["x"], ["h"], name="first"), node("Exp", ["h"], ["y"], name="second")], [X], [Y]
    )


def branch(then: onnx.GraphProto) -> ModelProto:
    other = graph([node("Neg", ["x"], ["e"])], [], [info("e")])
    return model([node("If", ["c"], ["y"], name="if", then_branch=then, else_branch=other)], [X, C], [Y])


def complaint(proto: ModelProto) -> str:
    """Return the one line that check raises."""
    with pytest.raises(InvalidModel) as caught:
        check(Model.from_proto(proto))
    text = str(caught.value)
    assert "\n" not in text
    assert text.count(";") >= 1  # what is wrong; what was expected or is to be done
    return text


# -------------------------------------------------------------------------------------------------- what is sound


def agrees_with_onnx(protos: Iterable[ModelProto]) -> int:
    count = 0
    for proto in protos:
        onnx.checker.check_model(proto)  # all of them are sound
        check(Model.from_proto(proto))
        count += 1
    return count


def test_the_models_that_onnx_ships_are_sound() -> None:
    assert agrees_with_onnx(onnx.load(path) for path in backend_files()) > 100


@pytest.mark.slow
def test_the_models_that_onnx_generates_are_sound() -> None:
    assert agrees_with_onnx(proto for _, proto, _ in backend_cases()) > 1500


def unknown_domain(proto: ModelProto) -> None:
    proto.opset_import.add(domain="of.nobody", version=7)
    proto.graph.node[0].domain, proto.graph.node[0].op_type = "of.nobody", "Strange"


def unknown_operator(proto: ModelProto) -> None:
    """Runtimes keep fused operators in the default domain, which no release of onnx ever had."""
    proto.graph.node[0].op_type = "BatchedFusedThing_TRT"
    proto.graph.node[1].attribute.add(name="own", i=1, type=AttributeProto.INT)
    proto.graph.node[1].op_type = "OtherThing"


def unknown_operator_inside(proto: ModelProto) -> None:
    body = graph([node("Strange", ["x"], ["t"])], [], [info("t")])
    proto.graph.node.append(node("If", ["c"], [""], then_branch=body, else_branch=body))
    proto.graph.input.append(C)
    made = helper.make_function(
        "my", "F", ["a"], ["b"], [node("Odd", ["a"], ["b"])], [helper.make_opsetid("", 21)]
    )
    proto.functions.append(made)


def no_rank(proto: ModelProto) -> None:
    proto.graph.input[0].CopyFrom(info("x", None))


def all_unknown_sizes(proto: ModelProto) -> None:
    proto.graph.input[0].CopyFrom(info("x", [None, "N"]))


def output_without_type(proto: ModelProto) -> None:
    proto.graph.output[0].ClearField("type")


def no_nodes(proto: ModelProto) -> None:
    proto.graph.ClearField("node")
    proto.graph.output[0].CopyFrom(X)


def constant_returned(proto: ModelProto) -> None:
    proto.graph.initializer.append(tensor("w", [1, 2]))
    proto.graph.output.append(info("w"))


def one_output_twice(proto: ModelProto) -> None:
    proto.graph.output.append(proto.graph.output[0])


def old_ir(proto: ModelProto) -> None:
    proto.ir_version = 3
    proto.opset_import[0].version = 7
    proto.graph.initializer.append(tensor("unused", [1]))


def large_weights(proto: ModelProto) -> None:
    proto.graph.initializer.append(tensor("w", np.zeros(100_000)))
    proto.graph.node.append(node("Constant", [], ["k"], value=tensor("", np.zeros(100_000))))


def sequence_input(proto: ModelProto) -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None))
    proto.graph.input.append(helper.make_value_info("s", kind))


SOUND = [
    unknown_domain,
    unknown_operator,
    unknown_operator_inside,
    no_rank,
    all_unknown_sizes,
    output_without_type,
    no_nodes,
    constant_returned,
    one_output_twice,
    old_ir,
    large_weights,
    sequence_input,
]


@pytest.mark.parametrize("change", SOUND, ids=lambda change: change.__name__)
def test_sound(change: Callable[[ModelProto], None]) -> None:
    proto = chain()
    change(proto)
    m = Model.from_proto(proto)
    before = m.to_proto()
    check(m)
    assert m.to_proto() == before


def test_three_gigabytes_are_checked_without_a_proto_of_them() -> None:
    b = Builder()
    x = b.input([1])
    weight = b.constant(np.broadcast_to(np.zeros(1, np.float32), (1,)))
    weight.values = np.broadcast_to(np.float32(0), (800_000_000,))  # no memory behind it
    m = b.model(b.add(x, weight))
    check(m)
    with pytest.raises(InvalidModel, match=r"3\.2 GB"):
        m.to_proto()


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


# ---------------------------------------------------------------------------------------- defects of a pass


def test_a_constant_that_was_never_filed() -> None:
    m = Model.from_proto(chain())
    m.nodes()[1].inputs = [gs.Constant("loose", np.zeros(2, np.float32))]
    with pytest.raises(InvalidModel, match="'loose'.*add_constant"):
        check(m)


def test_an_initializer_under_another_name() -> None:
    m = Model.from_proto(model([], [], [info("w", [1])], [tensor("w", [1])]))
    m.graph.initializers["w"].name = "v"
    with pytest.raises(InvalidModel, match="filed as 'w' is named 'v'"):
        check(m)


def test_two_tensors_under_one_name() -> None:
    m = Model.from_proto(chain())
    m.nodes()[1].outputs[0].name = "h"
    with pytest.raises(InvalidModel, match="made twice"):
        check(m)


def test_cost_of_a_node_does_not_grow() -> None:
    """Counted, not timed: the calls that a check makes, for chains of 200 and 2000 nodes with an If at each tenth."""

    def calls(count: int) -> int:
        body = graph([node("Neg", ["x"], ["t"])], [], [info("t")])
        nodes = []
        for i in range(count):
            nodes.append(node("Relu", [f"t{i}" if i else "x"], [f"t{i + 1}"]))
            if i % 10 == 0:
                nodes.append(node("If", ["c"], [f"i{i}"], then_branch=body, else_branch=body))
        m = Model.from_proto(model(nodes, [X, C], [info(f"t{count}")]))
        seen = 0

        def trace(frame: object, event: str, argument: object) -> None:
            nonlocal seen
            seen += event in ("call", "c_call")

        sys.setprofile(trace)
        try:
            check(m)
        finally:
            sys.setprofile(None)
        return seen

    few, many = calls(200), calls(2000)
    assert many / few == pytest.approx(10, rel=0.1)
