"""Small edits against slow, obvious versions of themselves, on random graphs with bodies in bodies."""

import random

import pytest
from onnx import ModelProto

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Model
from graphrewrite.ir.edit import (
    all_graphs,
    detach,
    drop_unused,
    redirect,
    remove_nodes,
    set_input,
    sort_nodes,
    subgraphs_of,
)
from tests.engine.ir.protos import graph, info, model, node, same, tensor
from tests.engine.ir.random_graphs import (
    broken_links,
    graphs_of,
    in_order,
    random_proto,
    reads_of,
    without_unused,
)

SEEDS = range(80)


# --------------------------------------------------------------------------------------------------- drop_unused


def test_drop_unused_equals_taking_out_one_by_one() -> None:
    dropped = 0
    for seed in SEEDS:
        proto = random_proto(seed)
        expected = without_unused(proto)
        m = Model.from_proto(proto)
        nodes, constants = drop_unused(m.graph)
        assert same(m.to_proto(), expected), seed
        before, after = (
            [c.name for g in graphs_of(p.graph) for c in g.initializer] for p in (proto, expected)
        )
        kept_bodies = {name for g in all_graphs(m.graph) for name in g.initializers}
        assert set(constants) <= set(before) - kept_bodies and kept_bodies == set(after)
        assert broken_links(m) == []
        assert drop_unused(m.graph) == ([], [])
        dropped += len(nodes)
    assert dropped > 200


def test_what_only_a_dead_node_in_a_body_reads_is_dead() -> None:
    body = graph([node("Relu", ["a"], ["dead"]), node("Relu", ["x"], ["r"])], [], [info("r")])
    m = Model.from_proto(
        model(
            [node("Exp", ["x"], ["a"]), node("If", ["c"], ["y"], then_branch=body)],
            [info("x"), info("c")],
            [info("y")],
        )
    )
    nodes, _ = drop_unused(m.graph)
    assert sorted(nodes) == ["Exp", "Relu"]


def test_unused_initializers_leave_the_inputs_too_but_not_those_of_a_body() -> None:
    body = graph([node("Relu", ["x"], ["r"])], [info("w"), info("i")], [info("r")], [tensor("w", [1, 2])])
    m = Model.from_proto(
        model(
            [node("Loop", ["", "", "x"], ["y"], body=body)],
            [info("x"), info("v")],
            [info("y")],
            [tensor("v", [1, 2]), tensor("u", [1])],
        )
    )
    assert drop_unused(m.graph) == ([], ["v", "u"])
    assert [t.name for t in m.graph.inputs] == ["x"]
    assert [t.name for t in m.nodes("Loop")[0].attrs["body"].inputs] == ["w", "i"]


def test_initializers_that_are_returned_or_annotated_are_used() -> None:
    proto = model(
        [node("Relu", ["x"], ["y"])],
        [info("x")],
        [info("y"), info("w", [1])],
        [tensor("w", [1]), tensor("s", [1])],
    )
    note = proto.graph.quantization_annotation.add(tensor_name="y")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    m = Model.from_proto(proto)
    assert drop_unused(m.graph) == ([], [])
    assert same(m.to_proto(), proto)


# ---------------------------------------------------------------------------------------------------- sort_nodes


def shuffled(proto: ModelProto, seed: int) -> ModelProto:
    nodes = list(proto.graph.node)
    random.Random(seed).shuffle(nodes)
    mixed = ModelProto()
    mixed.CopyFrom(proto)
    mixed.graph.ClearField("node")
    mixed.graph.node.extend(nodes)
    return mixed


def test_sort_takes_the_first_node_that_is_ready() -> None:
    moved = 0
    for seed in SEEDS:
        mixed = shuffled(random_proto(seed), seed)
        m = Model.from_proto(mixed)
        sort_nodes(m.graph)
        order = [n.name for n in m.nodes()]
        assert order == in_order(mixed.graph), seed
        moved += order != [n.name for n in mixed.graph.node]
        assert broken_links(m) == []
    assert moved > 40


def test_sort_leaves_a_sorted_graph_alone() -> None:
    for seed in SEEDS:
        m = Model.from_proto(random_proto(seed))
        before = [id(n) for n in m.nodes()]
        sort_nodes(m.graph)
        assert [id(n) for n in m.nodes()] == before


def test_sort_finds_every_cycle_and_names_a_node_on_it() -> None:
    cyclic = 0
    for seed in SEEDS:
        draw = random.Random(seed)
        proto = shuffled(random_proto(seed), seed)
        every = [name for n in proto.graph.node for name in n.output if name]
        for _ in range(2):
            draw.choice(proto.graph.node).input.append(draw.choice(every))
        m = Model.from_proto(proto)
        if in_order(proto.graph) is not None:
            sort_nodes(m.graph)
            continue
        cyclic += 1
        before = [n.name for n in m.nodes()]
        with pytest.raises(InvalidModel, match="depends on its own output") as caught:
            sort_nodes(m.graph)
        assert [n.name for n in m.nodes()] == before
        accused = str(caught.value).split("'")[1]
        assert accused in reachable(proto, accused), seed
    assert cyclic > 20


def reachable(proto: ModelProto, start: str) -> set[str]:
    """Return the nodes that depend on a node, itself only when on a cycle."""
    found: set[str] = set()
    names = {name for n in proto.graph.node if n.name == start for name in n.output if name}
    while True:
        more = [n for n in proto.graph.node if n.name not in found and reads_of(n) & names]
        if not more:
            return found
        found |= {n.name for n in more}
        names |= {name for n in more for name in n.output if name}


def test_a_node_that_reads_its_own_output_is_a_cycle() -> None:
    m = Model.from_proto(model([node("Add", ["x", "y"], ["y"], name="self")], [info("x")], [info("y")]))
    with pytest.raises(InvalidModel, match="'self'"):
        sort_nodes(m.graph)


# ------------------------------------------------------------------------------------------- redirect, set_input


def renamed(proto: ModelProto, old: str, new: str) -> ModelProto:
    """Let every reader of `old` read `new`, by name; declarations of outputs follow their tensor."""
    after = ModelProto()
    after.CopyFrom(proto)
    for each in graphs_of(after.graph):
        for one in each.node:
            one.input[:] = [new if name == old else name for name in one.input]
        for output in each.output:
            output.name = new if output.name == old else output.name
    return after


def test_redirect_equals_renaming() -> None:
    for seed in SEEDS:
        draw = random.Random(seed)
        proto = random_proto(seed)
        m = Model.from_proto(proto)
        tensors = {t.name: t for n in m.nodes() for t in (*n.inputs, *n.outputs) if t.name}
        old, new = draw.choice(sorted(tensors)), draw.choice(sorted(tensors))
        redirect(m.graph, tensors[old], tensors[new])
        for made, expected in zip(
            all_protos(m.to_proto()), all_protos(renamed(proto, old, new)), strict=True
        ):
            assert made == expected, seed
        assert broken_links(m) == [], seed


def all_protos(proto: ModelProto) -> list[tuple[list[tuple[str, ...]], list[str]]]:
    return [([tuple(n.input) for n in g.node], [o.name for o in g.output]) for g in graphs_of(proto.graph)]


def test_redirect_to_itself_changes_nothing() -> None:
    proto = random_proto(0)
    m = Model.from_proto(proto)
    for tensor_ in {id(t): t for n in m.nodes() for t in n.outputs}.values():
        redirect(m.graph, tensor_, tensor_)
    assert same(m.to_proto(), proto)
    assert broken_links(m) == []


def test_set_input_keeps_the_lists_in_step() -> None:
    for seed in SEEDS:
        draw = random.Random(seed)
        m = Model.from_proto(random_proto(seed))
        nodes = [n for g in all_graphs(m.graph) for n in g.nodes if len(n.inputs)]
        tensors = [t for n in nodes for t in n.inputs]
        for _ in range(10):
            target, new = draw.choice(nodes), draw.choice(tensors)
            place = draw.randrange(len(target.inputs))
            others = [t for i, t in enumerate(target.inputs) if i != place]
            set_input(target, place, new)
            assert target.inputs[place] is new
            assert all(
                a is b
                for a, b in zip(others, [t for i, t in enumerate(target.inputs) if i != place], strict=True)
            )
        assert broken_links(m) == []


# --------------------------------------------------------------------------------------------- detach, remove_nodes


def test_detached_nodes_are_in_no_list_any_more() -> None:
    for seed in SEEDS:
        draw = random.Random(seed)
        m = Model.from_proto(random_proto(seed))
        doomed = draw.sample(m.nodes(), 4)
        inside = [n for d in doomed for body in subgraphs_of(d) for g in all_graphs(body) for n in g.nodes]
        remove_nodes(m.graph, doomed)
        gone = {id(n) for n in (*doomed, *inside)}
        assert not gone & {id(n) for n in m.nodes()}
        assert all(not len(n.inputs) and not len(n.outputs) for n in (*doomed, *inside))
        assert broken_links(m) == []


def test_detach_alone_leaves_the_graph_its_list() -> None:
    m = Model.from_proto(random_proto(1))
    detach(m.nodes()[:1])
    assert len(m.nodes()) == 12
    assert not len(m.nodes()[0].inputs)


def test_removing_nothing_is_nothing() -> None:
    proto = random_proto(2)
    m = Model.from_proto(proto)
    remove_nodes(m.graph, [])
    assert same(m.to_proto(), proto)


def test_equal_nodes_are_told_apart() -> None:
    """`gs` compares nodes field by field; of two equal ones the right one must go."""
    m = Model.from_proto(model([node("Relu", ["x"], [""]), node("Relu", ["x"], [""])], [info("x")], []))
    first, second = m.nodes()
    remove_nodes(m.graph, [second])
    assert m.nodes()[0] is first
    assert [n is first for n in m.inputs[0].outputs] == [True]


# ------------------------------------------------------------------------------------------- the oracles can fail


def test_a_node_too_many_or_too_few_would_be_seen() -> None:
    proto = random_proto(3)
    assert not same(without_unused(proto), proto)
    expected = without_unused(proto)
    del expected.graph.node[-1]
    assert not same(without_unused(proto), expected)


def test_an_order_that_is_none_would_be_seen() -> None:
    proto = random_proto(4)
    assert in_order(proto.graph) == [n.name for n in proto.graph.node]
    proto.graph.node[0].input.append(next(name for name in proto.graph.node[-1].output if name))
    last_reads_first = bool(reads_of(proto.graph.node[-1]) & set(proto.graph.node[0].output))
    assert (in_order(proto.graph) is None) or not last_reads_first
    assert in_order(proto.graph) != [n.name for n in proto.graph.node]


def test_a_link_out_of_step_would_be_seen() -> None:
    m = Model.from_proto(random_proto(5))
    used = next(t for n in m.nodes() for t in n.inputs if t.name)
    list.append(used.outputs, used.outputs[0])
    assert broken_links(m) == [used.name]
