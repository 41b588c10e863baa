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
from tests.engine.ir.checked import chain
from tests.engine.ir.protos import backend_cases, backend_files, graph, info, model, node, tensor

X, Y, C = info("x"), info("y"), info("c", [], TensorProto.BOOL)


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


def operator_before_its_time(proto: ModelProto) -> None:
    """Fusions of onnxruntime write LayerNormalization into models of any operator set; the standard has it from 17."""
    proto.opset_import[0].version = 14
    proto.graph.node[0].CopyFrom(
        node("LayerNormalization", [proto.graph.node[0].input[0], "s"], list(proto.graph.node[0].output))
    )
    proto.graph.input.append(info("s", [1]))


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
    operator_before_its_time,
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
