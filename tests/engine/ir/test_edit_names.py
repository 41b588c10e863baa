"""Looking around in a graph, names that are free, constants and the mapping of weights."""

import random

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.errors import InvalidModel, UnknownNameError
from graphrewrite.ir import Model, Namer
from graphrewrite.ir.edit import (
    add_constant,
    all_graphs,
    captured,
    names_of,
    producer,
    subgraphs_of,
)
from tests.engine.ir.protos import graph, info, model, node, tensor
from tests.engine.ir.random_graphs import (
    graphs_of,
    names_read,
    random_proto,
)

SEEDS = range(80)


# --------------------------------------------------------------------------------------------- looking, naming, filing


def test_looking_around() -> None:
    inner = graph([node("Relu", ["x"], ["i"])], [], [info("i")])
    outer = graph([node("If", ["c"], ["o"], then_branch=inner)], [], [info("o")])
    m = Model.from_proto(
        model([node("If", ["c"], ["y"], then_branch=outer)], [info("x"), info("c")], [info("y")])
    )
    (top,) = m.nodes()
    assert producer(m.outputs[0]) is top
    assert top is not None
    assert producer(m.inputs[0]) is None
    assert [g.nodes[0].op for g in all_graphs(m.graph)] == ["If", "If", "Relu"]
    assert {t.name for t in captured(top)} == {"x", "c", "i", "o"}
    assert names_of(m.graph) == {"x", "c", "i", "o", "y"}
    top.attrs["list"] = [gs.Graph(name="other")]
    assert [g.name for g in subgraphs_of(top)] == ["g", "other"]


def test_names_of_counts_every_name_a_proto_has() -> None:
    for seed in SEEDS:
        proto = random_proto(seed)
        every = {name for g in graphs_of(proto.graph) for n in g.node for name in (*n.input, *n.output)}
        every |= {i.name for g in graphs_of(proto.graph) for i in (*g.input, *g.output, *g.initializer)}
        assert names_of(Model.from_proto(proto).graph) - {""} == every - {""}
        assert names_read(proto.graph) <= every


def test_namer_gives_the_first_free_number() -> None:
    draw = random.Random(0)
    m = Model.from_proto(model([], [info(n) for n in ("a", "a.1", "a.3", "b.1")], []))
    used = {"a", "a.1", "a.3", "b.1"}
    namer = Namer(m.graph)
    for _ in range(200):
        stem = draw.choice(["a", "b", "a.1", "c"])
        expected = next(n for n in (stem, *(f"{stem}.{k}" for k in range(1, 999))) if n not in used)
        assert namer.fresh(stem) == expected
        used.add(expected)


def test_namer_never_gives_the_name_of_what_is_left_out() -> None:
    m = Model.from_proto(model([], [info("x")], []))
    assert Namer(m.graph).fresh("") == "tensor"


def test_namer_knows_names_inside_bodies_and_of_mere_declarations() -> None:
    inner = graph([node("Relu", ["x"], ["deep"])], [], [info("deep")])
    proto = model([node("If", ["c"], ["y"], then_branch=inner)], [info("x"), info("c")], [info("y")])
    proto.graph.value_info.append(info("said"))
    namer = Namer(Model.from_proto(proto).graph)
    assert [namer.fresh(n) for n in ("deep", "said", "free")] == ["deep.1", "said.1", "free"]


def test_add_constant() -> None:
    m = Model.from_proto(model([], [info("x")], []))
    scalar = np.float32(3)
    made = add_constant(m.graph, "s", np.asarray(scalar))
    assert m.graph.initializers["s"] is made
    assert (made.shape, made.values.flags.writeable) == ((), False)
    with pytest.raises(InvalidModel, match="exists already"):
        add_constant(m.graph, "s", np.zeros(1))


# ------------------------------------------------------------------------------------------------------- weights


def test_weights_are_a_mapping_of_initializers() -> None:
    m = Model.from_proto(
        model([node("Add", ["w", "w"], ["y"])], [], [info("y")], [tensor("w", [1, 2]), tensor("u", 5)])
    )
    assert list(m.weights) == ["w", "u"]
    assert len(m.weights) == 2
    assert m.weights["w"].tolist() == [1, 2]
    assert m.weights.shape("u") == ()
    m.weights["u"] = np.asarray(7, np.float32)
    assert m.weights["u"].shape == ()
    m.weights["w"] = np.zeros((3, 2), np.float32).T  # not contiguous
    assert m.weights["w"].flags.c_contiguous
    assert m.nodes()[0].inputs[0].shape == (2, 3)
    del m.weights["u"]
    assert list(m.weights) == ["w"]


def test_a_weight_in_use_is_not_deleted() -> None:
    body = graph([], [], [info("b", [1])])
    m = Model.from_proto(
        model(
            [node("Relu", ["w"], ["y"], name="reader"), node("If", ["c"], ["z"], then_branch=body)],
            [info("c"), info("o", [1])],
            [info("o", [1])],
            [tensor("w", [1]), tensor("o", [1]), tensor("b", [1])],
        )
    )
    for name, user in (("w", "reader"), ("o", "graph's outputs"), ("b", "subgraph")):
        with pytest.raises(InvalidModel, match=user):
            del m.weights[name]
    with pytest.raises(UnknownNameError, match="'nothing'"):
        m.weights["nothing"]


def test_a_deleted_weight_leaves_the_inputs() -> None:
    m = Model.from_proto(model([], [info("w", [1])], [], [tensor("w", [1])]))
    del m.weights["w"]
    assert m.graph.inputs == []
