from collections import Counter

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder, Model
from graphrewrite.ir.check import check
from graphrewrite.match import Draft
from graphrewrite.runtime import run
from tests.support.graphs import random_model


def chain() -> tuple[Model, dict[str, gs.Node]]:
    """x -> Relu a -> Exp b -> Neg c -> output."""
    b = Builder()
    b.model(b.op("Neg", b.op("Exp", b.op("Relu", b.input([3], "x"), name="a"), name="b"), name="c"))
    model = b.model(b.graph.nodes[-1].outputs[0])
    return model, {node.name: node for node in model.graph.nodes}


def ops(model: Model) -> list[str]:
    return [node.op for node in model.graph.nodes]


def test_reading_past_a_node_buries_it() -> None:
    model, nodes = chain()
    draft = Draft(model)
    assert draft.replace(nodes["b"].outputs[0], nodes["a"].outputs[0])
    assert not draft.is_alive(nodes["b"]) and draft.is_alive(nodes["a"])
    assert [node.name for node in draft.nodes()] == ["a", "c"]
    draft.close()
    assert ops(model) == ["Relu", "Neg"]
    check(model)


def test_what_only_the_dead_read_dies_with_them() -> None:
    model, nodes = chain()
    draft = Draft(model)
    draft.set_input(nodes["c"], 0, model.inputs[0])
    draft.close()
    assert ops(model) == ["Neg"]


def test_an_output_keeps_its_name() -> None:
    model, nodes = chain()
    name = model.outputs[0].name
    draft = Draft(model)
    assert draft.replace(nodes["c"].outputs[0], nodes["b"].outputs[0])
    draft.close()
    assert ops(model) == ["Relu", "Exp"]
    assert model.outputs[0].name == name and model.graph.nodes[-1].outputs[0].name == name


def test_an_output_cannot_become_an_input() -> None:
    model, nodes = chain()
    draft = Draft(model)
    assert not draft.can_replace(nodes["c"].outputs[0], model.inputs[0])
    assert not draft.replace(nodes["c"].outputs[0], model.inputs[0])
    draft.close()
    assert len(ops(model)) == 3


def test_a_new_node_stands_where_the_old_one_stood_and_writes_its_tensor() -> None:
    model, nodes = chain()
    draft = Draft(model)
    draft.anchor = nodes["b"]
    old = nodes["b"].outputs[0]
    new = draft.op("Abs", draft.op("Sqrt", nodes["a"].outputs[0], like=old), like=old)
    assert draft.replace(old, new)
    draft.close()
    assert ops(model) == ["Relu", "Sqrt", "Abs", "Neg"]
    assert model.graph.nodes[2].outputs[0].name == "b_out" and model.graph.nodes[2].name == "b"
    assert len({node.name for node in model.graph.nodes}) == 4


def test_new_names_are_fresh() -> None:
    model, nodes = chain()
    draft = Draft(model)
    draft.anchor = nodes["b"]
    made = [draft.op("Abs", model.inputs[0]) for _ in range(3)]
    assert len({tensor.name for tensor in made}) == 3


def test_a_node_may_not_take_the_place_of_its_own_input() -> None:
    model, nodes = chain()
    draft = Draft(model)
    draft.anchor = nodes["b"]
    old = nodes["b"].outputs[0]
    with pytest.raises(AssertionError, match="its own input"):
        draft.replace(old, draft.op("Abs", old, like=old))


def test_readings_are_counted() -> None:
    b = Builder()
    x = b.input([3])
    y = b.relu(x)
    model = b.model(b.op("Mul", y, y), y)
    draft = Draft(model)
    product = model.graph.nodes[1]
    assert [node.op for node in draft.users(y)] == ["Mul", "Mul"]
    assert draft.use_count(y) == 3 and draft.sole_user(y) is None
    draft.set_input(product, 1, x)
    assert draft.use_count(y) == 2 and [node.op for node in draft.users(y)] == ["Mul"]


def test_one_node_that_reads_twice_is_one_reader() -> None:
    b = Builder()
    y = b.relu(b.input([3]))
    model = b.model(b.op("Mul", y, y))
    assert Draft(model).sole_user(y) is model.graph.nodes[1]


def test_a_tensor_becomes_a_constant_under_its_name() -> None:
    model, nodes = chain()
    draft = Draft(model)
    assert draft.make_constant(nodes["b"].outputs[0], np.asarray([1, 2, 3], np.float32))
    draft.close()
    assert ops(model) == ["Neg"] and list(model.weights) == ["b_out"]
    check(model)


def test_a_constant_output_is_written_by_a_node() -> None:
    model, nodes = chain()
    draft = Draft(model)
    assert draft.make_constant(nodes["c"].outputs[0], np.float32(3))
    draft.close()
    assert ops(model) == ["Constant"]
    assert model.graph.nodes[0].attrs["value"].values.shape == ()


def test_before_ir_4_new_initializers_are_listed_as_inputs() -> None:
    b = Builder(opset=8, ir_version=3)
    y = b.relu(b.input([3]))
    model = b.model(b.op("Neg", y))
    draft = Draft(model)
    draft.make_constant(y, np.asarray([1, 2, 3], np.float32))
    draft.close()
    assert [tensor.name for tensor in model.graph.inputs] == ["x_1", "relu_2_out"]


def test_a_body_that_reads_a_tensor_keeps_it_alive() -> None:
    from tests.passes.tidy.test_inline_if import node, with_if

    model = with_if(None, ([node("Relu", ["x"], "r")], ["r"], {}), ([node("Neg", ["x"], "n")], ["n"], {}))
    draft = Draft(model)
    assert draft.use_count(model.inputs[0]) == 2
    assert not any(draft.is_alive(user) for user in draft.users(model.inputs[0]))  # they are of other graphs


def test_a_dead_node_with_bodies_frees_what_they_read() -> None:
    from tests.passes.tidy.test_inline_if import node, with_if

    model = with_if(None, ([node("Relu", ["x"], "r")], ["r"], {}), ([node("Neg", ["x"], "n")], ["n"], {}))
    choice, last = model.graph.nodes
    draft = Draft(model)
    draft.set_input(last, 0, model.inputs[0])
    assert not draft.is_alive(choice) and draft.use_count(model.inputs[0]) == 1
    draft.close()
    assert ops(model) == ["Exp"]


def test_the_books_agree_with_a_recount_on_random_edits() -> None:
    """After every random edit, readers by the draft equal readers counted anew from all living nodes."""
    edits = 0
    for seed in range(30):
        model = random_model(seed).model
        rng = np.random.default_rng(seed)
        draft = Draft(model)
        for _ in range(12):
            living = list(draft.nodes())
            node = living[int(rng.integers(len(living)))]
            if not node.inputs or not node.outputs or node.outputs[0].is_empty():
                continue
            choice, source = int(rng.integers(3)), node.inputs[0]
            if choice == 0 and not source.is_empty():
                edits += draft.replace(node.outputs[0], source)
            elif choice == 1:
                edits += draft.make_constant(node.outputs[0], np.asarray([1], np.float32))
            else:
                draft.set_input(node, int(rng.integers(len(node.inputs))), model.inputs[0])
                edits += 1
            recount(draft)
        draft.close()
        position = {id(node): index for index, node in enumerate(model.graph.nodes)}
        for index, node in enumerate(model.graph.nodes):
            for tensor in node.inputs:
                assert all(position[id(maker)] < index for maker in tensor.inputs)
                assert sum(user is node for user in tensor.outputs) == sum(t is tensor for t in node.inputs)
    assert edits > 100


def recount(draft: Draft) -> None:
    counted: Counter[int] = Counter()
    tensors: dict[int, gs.Tensor] = {}
    for node in draft.nodes():
        for tensor in node.inputs:
            if not tensor.is_empty():
                counted[id(tensor)] += 1
                tensors[id(tensor)] = tensor
    for key, tensor in tensors.items():
        assert draft.use_count(tensor) == counted[key] + draft.is_output(tensor)
        assert len(draft.users(tensor)) == counted[key]


def test_shapes_of_new_tensors_are_known() -> None:
    model, nodes = chain()
    draft = Draft(model)
    draft.anchor = nodes["b"]
    made = draft.op("Abs", model.inputs[0], like=model.inputs[0])
    assert draft.shape(made) == (3,) and draft.dtype(made) == np.float32
    other = draft.op("Flatten", made, like=made, shape=(1, 3))
    assert draft.shape(other) == (1, 3) and draft.rank(draft.op("Relu", other)) is None


def test_the_result_still_runs() -> None:
    model, nodes = chain()
    draft = Draft(model)
    draft.replace(nodes["b"].outputs[0], nodes["a"].outputs[0])
    draft.close()
    (out,) = run(model, {"x": np.asarray([-1, 0, 2], np.float32)}).values()
    assert out.tolist() == [0, 0, -2]
