"""A clone shares arrays and nothing else, and costs the same for every node."""

import sys
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto

from graphrewrite.ir import Builder, Model, array_of
from graphrewrite.ir.edit import add_constant, all_graphs, redirect, remove_nodes, sort_nodes
from tests.engine.ir.protos import graph, info, model, node, same, tensor


def example() -> Model:
    """A Loop holding an If that captures from both graphs around it; not sorted: `late` is made after the Loop."""
    then = graph([node("Add", ["carried", "late"], ["t"])], [], [info("t")])
    other = graph([node("Mul", ["carried", "w"], ["e"])], [], [info("e")], [tensor("own", range(100))])
    body = graph(
        [
            node("If", ["go"], ["next"], then_branch=then, else_branch=other),
            node("Identity", ["go"], ["again"]),
        ],
        [info("i", [], TensorProto.INT64), info("go", [], TensorProto.BOOL), info("carried", [100])],
        [info("again", [], TensorProto.BOOL), info("next", [100])],
    )
    nodes = [
        node("Loop", ["trips", "yes", "x"], ["y"], body=body, name="loop"),
        node("Relu", ["w"], ["late"], name="late"),
        node("Constant", [], ["c"], value=tensor("", range(100)), name="constant"),
    ]
    constants = [tensor("w", range(100)), tensor("trips", 3, np.int64), tensor("yes", True, bool)]
    return Model.from_proto(model(nodes, [info("x", [100])], [info("y", [100])], constants))


def things(m: Model) -> Iterator[object]:
    """Yield every object of the graphs that a pass may change in place."""
    for each in all_graphs(m.graph):
        yield from (each, each.nodes, each.inputs, each.outputs, each.initializers)
        for n in each.nodes:
            yield from (n, n.attrs, n.inputs, n.outputs)
            yield from (value for value in n.attrs.values() if isinstance(value, (gs.Constant, list)))
            for t in (*n.inputs, *n.outputs):
                yield from (t, t.inputs, t.outputs)
                if isinstance(t, gs.Variable) and t.shape is not None:
                    yield t.shape


def linked(m: Model) -> list[str]:
    """Return what is wrong with the links between nodes and tensors: each must know of each use of the other."""
    nodes = [n for each in all_graphs(m.graph) for n in each.nodes]
    tensors = {id(t): t for n in nodes for t in (*n.inputs, *n.outputs)}
    wrong = []
    for t in tensors.values():
        users = sorted(id(n) for n in nodes for other in n.inputs if other is t)
        makers = sorted(id(n) for n in nodes for other in n.outputs if other is t)
        if users != sorted(map(id, t.outputs)) or makers != sorted(map(id, t.inputs)):
            wrong.append(t.name)
    return wrong


def test_a_clone_is_the_same_model() -> None:
    original = example()
    assert same(original.clone().to_proto(), original.to_proto())
    assert linked(original) == []
    assert linked(original.clone()) == []


def test_nothing_but_arrays_is_shared() -> None:
    original = example()
    clone = original.clone()
    assert not {id(thing) for thing in things(original)} & {id(thing) for thing in things(clone)}
    assert clone.metadata is not original.metadata
    assert clone.opsets is not original.opsets


def test_arrays_are_shared() -> None:
    original = example()
    clone = original.clone()
    assert np.shares_memory(original.weights["w"], clone.weights["w"])
    pairs = [
        (
            m.nodes("Constant")[0].attrs["value"],
            m.nodes("Loop")[0].attrs["body"].nodes[0].attrs["else_branch"],
        )
        for m in (original, clone)
    ]
    assert np.shares_memory(array_of(pairs[0][0]), array_of(pairs[1][0]))
    assert np.shares_memory(
        array_of(pairs[0][1].initializers["own"]), array_of(pairs[1][1].initializers["own"])
    )


def test_captures_lead_into_the_clone() -> None:
    clone = example().clone()
    (loop,) = clone.nodes("Loop")
    body = loop.attrs["body"]
    branches = body.nodes[0].attrs
    assert branches["then_branch"].nodes[0].inputs[0] is body.inputs[2]
    assert branches["then_branch"].nodes[0].inputs[1] is clone.nodes("Relu")[0].outputs[0]
    assert branches["else_branch"].nodes[0].inputs[1] is clone.graph.initializers["w"]


def test_a_clone_keeps_what_passes_hang_on_it() -> None:
    original = example()
    original.origin["new"] = ("old", "cut")
    clone = original.clone()
    assert clone.origin == {"new": ("old", "cut")}
    clone.origin["other"] = ("old", "cut")
    assert original.origin == {"new": ("old", "cut")}


def test_functions_are_copies() -> None:
    proto = model([node("Relu", ["x"], ["y"])], [info("x")], [info("y")])
    proto.functions.append(
        onnx.helper.make_function("my", "F", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [])
    )
    original = Model.from_proto(proto)
    original.clone().functions[0].node[0].op_type = "Elu"
    assert original.functions[0].node[0].op_type == "Relu"


def change_weight(m: Model) -> None:
    m.weights["w"] = np.zeros(100, np.float32)


def change_inner_weight(m: Model) -> None:
    inner = m.nodes("Loop")[0].attrs["body"].nodes[0].attrs["else_branch"]
    inner.initializers["own"].values = np.zeros(100, np.float32)


def change_constant_node(m: Model) -> None:
    m.nodes("Constant")[0].attrs["value"].values = np.zeros(100, np.float32)


def rename_tensor(m: Model) -> None:
    m.inputs[0].name = "renamed"


def change_shape_in_place(m: Model) -> None:
    m.inputs[0].shape[0] = "N"


def change_attribute(m: Model) -> None:
    m.nodes("Relu")[0].attrs["new"] = 1


def rewire(m: Model) -> None:
    redirect(m.graph, m.nodes("Relu")[0].outputs[0], m.graph.initializers["w"])


def remove(m: Model) -> None:
    remove_nodes(m.graph, m.nodes("Constant"))


def remove_inside(m: Model) -> None:
    body = m.nodes("Loop")[0].attrs["body"]
    remove_nodes(body, body.nodes[:1])


def add(m: Model) -> None:
    add_constant(m.graph, "new", np.zeros(1, np.float32))


def reorder(m: Model) -> None:
    sort_nodes(m.graph)


def change_outputs(m: Model) -> None:
    m.graph.outputs.pop()


CHANGES = [
    change_weight, change_inner_weight, change_constant_node, rename_tensor, change_shape_in_place, change_attribute,
    rewire, remove, remove_inside, add, reorder, change_outputs,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_original_stays_as_it_was(change: Callable[[Model], None]) -> None:
    original = example()
    before = original.to_proto()
    clone = original.clone()
    change(clone)
    assert original.to_proto() == before
    assert not same(clone.to_proto(), before)  # the change was one
    assert linked(original) == [] == linked(clone)


def test_cost_of_a_node_does_not_grow() -> None:
    """Counted, not timed: the calls into Python that a clone makes, for chains of 200 and 2000 nodes."""

    def calls(count: int) -> int:
        b = Builder()
        x = b.input([8])
        for _ in range(count):
            x = b.add(x, b.constant(np.zeros(8, np.float32)))
        m = b.model(x)
        seen = 0

        def trace(frame: object, event: str, argument: object) -> None:
            nonlocal seen
            seen += event in ("call", "c_call")

        sys.setprofile(trace)
        try:
            m.clone()
        finally:
            sys.setprofile(None)
        return seen

    few, many = calls(200), calls(2000)
    assert many / few == pytest.approx(10, rel=0.05)
    assert few / 200 < 120


# ------------------------------------------------------------------------------------------ the oracles can fail


def test_a_shallow_copy_would_be_seen() -> None:
    original = example()
    shallow = Model(original.graph, dict(original.opsets))
    assert {id(thing) for thing in things(original)} & {id(thing) for thing in things(shallow)}
    change_weight(shallow)
    assert not same(original.to_proto(), example().to_proto())


def test_a_lost_link_would_be_seen() -> None:
    m = example()
    list.clear(m.graph.initializers["w"].outputs)
    assert linked(m) == ["w"]
