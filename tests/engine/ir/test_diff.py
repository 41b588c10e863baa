"""Every kind of change shows as one line, and what did not change shows as none."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper

from graphrewrite.ir import Builder, Model
from graphrewrite.ir.diff import changes, diff, is_same
from graphrewrite.ir.edit import add_constant, remove_nodes


def small() -> Model:
    b = Builder()
    x = b.input(["N", 3, 4, 4], "x")
    y = b.conv(x, out=2, into=3, kernel=1, name="conv")
    return b.model(b.op("LeakyRelu", y, name="act", alpha=0.5))


def rename_node(model: Model) -> None:
    model.graph.nodes[1].name = "other"


def change_attribute(model: Model) -> None:
    model.graph.nodes[1].attrs["alpha"] = 0.25


def drop_attribute(model: Model) -> None:
    del model.graph.nodes[1].attrs["alpha"]


def change_operator(model: Model) -> None:
    model.graph.nodes[1].op = "Elu"


def change_input(model: Model) -> None:
    model.graph.nodes[1].inputs[0] = model.graph.inputs[0]


def add_weight(model: Model) -> None:
    add_constant(model.graph, "extra", np.zeros((2, 3), np.float32))


def cut_weight(model: Model) -> None:
    name = next(name for name in model.weights if model.weights.shape(name) == (2, 3, 1, 1))
    model.weights[name] = model.weights[name][:1]


def nudge_weight(model: Model) -> None:
    name = next(name for name in model.weights if model.weights.shape(name) == (2,))
    model.weights[name] = np.add(model.weights[name], np.float32(0.25))


def freeze_batch(model: Model) -> None:
    model.graph.inputs[0].shape = [1, 3, 4, 4]


def declare_tensor(model: Model) -> None:
    model.graph.nodes[0].outputs[0].dtype = np.dtype(np.float32)


def note_metadata(model: Model) -> None:
    model.metadata["made"] = "here"


def raise_opset(model: Model) -> None:
    model.opsets[""] = 18


def swap_nodes(model: Model) -> None:
    model.graph.nodes.reverse()


CASES: list[tuple[Callable[[Model], None], str]] = [
    (rename_node, "~ node act: name 'act' -> 'other'"),
    (change_attribute, "~ node act: alpha 0.5 -> 0.25"),
    (drop_attribute, "~ node act: -alpha=0.5"),
    (change_operator, "~ node act: operator LeakyRelu -> Elu"),
    (change_input, "~ node act: inputs (conv_out) -> (x)"),
    (add_weight, "+ initializer extra float32[2, 3]"),
    (cut_weight, "~ initializer w_1: float32[2, 3, 1, 1] -> float32[1, 3, 1, 1]"),
    (nudge_weight, "~ initializer c_2: float32[2] values, by up to 0.25"),
    (freeze_batch, "~ input x: float32[N, 3, 4, 4] -> float32[1, 3, 4, 4]"),
    (declare_tensor, "+ tensor conv_out float32"),
    (note_metadata, "+ metadata 'made' 'here'"),
    (raise_opset, "~ opset '': 17 -> 18"),
    (swap_nodes, "~ order of nodes"),
]


@pytest.mark.parametrize(("change", "line"), CASES, ids=[change.__name__ for change, _ in CASES])
def test_one_change_is_one_line(change: Callable[[Model], None], line: str) -> None:
    before = small()
    after = before.clone()
    change(after)

    assert diff(before, after) == line
    assert not is_same(before, after)


def test_a_clone_and_a_reloaded_model_do_not_differ(tmp_path: Path) -> None:
    model = small()
    model.save(tmp_path / "model.onnx")

    assert diff(model, model.clone()) == ""
    assert diff(model, Model.load(tmp_path / "model.onnx")) == ""


def test_a_removed_and_an_added_node_show_with_their_wiring() -> None:
    before = small()
    after = before.clone()
    (conv, act) = after.graph.nodes
    remove_nodes(after.graph, [act])
    after.graph.nodes.append(gs.Node("Relu", "relu", {}, [conv.outputs[0]], [gs.Variable("y")]))

    lines = list(changes(before, after))

    assert "- node LeakyRelu (conv_out) -> (act_out) {alpha=0.5}" in lines
    assert "+ node Relu (conv_out) -> (y)" in lines
    assert len(lines) == 2


def test_a_change_inside_a_body_is_seen() -> None:
    def branch(value: float) -> onnx.GraphProto:
        constant = helper.make_tensor("v", TensorProto.FLOAT, [1], [value])
        node = helper.make_node("Constant", [], ["b"], value=constant)
        return helper.make_graph([node], "body", [], [helper.make_tensor_value_info("b", 1, [1])])

    def model(value: float) -> Model:
        node = helper.make_node("If", ["c"], ["y"], "if", then_branch=branch(1.0), else_branch=branch(value))
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        )
        return Model.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))

    assert diff(model(2.0), model(2.0)) == ""
    assert diff(model(2.0), model(3.0)) == (
        "~ node if: else_branch: [~ node b: value float32[1] [2.0] -> float32[1] [3.0]]"
    )


def test_not_a_number_equals_itself() -> None:
    before = small()
    name = next(iter(before.weights))
    before.weights[name] = np.full(before.weights.shape(name), np.nan, np.float32)
    after = before.clone()
    after.weights[name] = before.weights[name].copy()

    assert is_same(before, after)


def test_weights_in_files_are_not_read_when_they_are_the_same(tmp_path: Path) -> None:
    b = Builder()
    x = b.input(["N", 1024], "x")
    b.model(b.op("MatMul", x, b.weight(1024, 1024, name="w"))).save(tmp_path / "inline.onnx")
    stored = onnx.load(tmp_path / "inline.onnx")
    onnx.save(
        stored, tmp_path / "outside.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    model = Model.load(tmp_path / "outside.onnx")
    (tmp_path / "w.bin").write_bytes(b"")  # whoever reads it now fails

    assert is_same(model, model.clone())


def test_the_time_grows_with_the_nodes_and_not_faster() -> None:
    def seconds(nodes: int) -> float:
        b = Builder()
        y = b.input(["N", 2], "x")
        for _ in range(nodes):
            y = b.relu(y)
        model = b.model(y)
        other = model.clone()
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            assert is_same(model, other)
            best = min(best, time.perf_counter() - start)
        return best

    # Eight times the nodes: 8 when linear, 64 when quadratic.
    assert seconds(8000) / seconds(1000) < 24
