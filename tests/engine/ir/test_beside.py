"""Models side by side: each computes what it did alone, and each can be read out of the whole again."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from onnx import AttributeProto, GraphProto, NodeProto

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.beside import beside, twice
from graphrewrite.ir.check import check
from graphrewrite.ir.diff import diff
from graphrewrite.ir.edit import redirect
from graphrewrite.runtime import run
from tests.engine.ir.checked import branch
from tests.engine.ir.functions import TWICE, calling, function
from tests.engine.ir.protos import graph, info, node
from tests.engine.ir.random_graphs import broken_links, random_proto


def net(seed: int = 0, inputs: tuple[str, ...] = ("x",), opset: int = 17) -> Model:
    b = Builder(seed=seed, opset=opset)
    ins = [b.input(["N", 3], name) for name in inputs]
    return b.model(b.linear(b.relu(b.linear(b.add(ins[0], ins[-1]), 4, 3)), 2, 4))


def test_each_part_computes_what_it_does_alone() -> None:
    one, other = net(1), net(2)
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    whole = beside({"": one, "b/": other})
    check(whole)
    name = one.outputs[0].name
    found = run(whole, {"x": x})
    assert list(found) == [name, f"b/{name}"]
    np.testing.assert_array_equal(found[name], run(one, {"x": x})[name])
    np.testing.assert_array_equal(found[f"b/{name}"], run(other, {"x": x})[name])
    assert not np.allclose(found[name], found[f"b/{name}"])


def test_inputs_of_one_name_are_one_and_numbers_are_shared() -> None:
    one, other = net(1, ("x", "y")), net(2, ("y", "z"))
    whole = beside({"a/": one, "b/": other})
    assert [tensor.name for tensor in whole.inputs] == ["x", "y", "z"]
    name = next(iter(one.weights))
    assert np.shares_memory(whole.weights[f"a/{name}"], one.weights[name])


def test_the_parts_stay_as_they_are() -> None:
    one = net(1)
    before = one.clone()
    beside({"a/": one, "b/": one})
    assert diff(before, one) == "" and broken_links(one) == []


def stripped(nodes: list[NodeProto], prefix: str, inputs: frozenset[str]) -> list[NodeProto]:
    """The nodes of a part with their old names, found the slow way, in the proto."""

    def back(name: str) -> str:
        if not name or name in inputs:
            return name
        assert name.startswith(prefix), name
        return name.removeprefix(prefix)

    def graph_back(body: GraphProto) -> GraphProto:
        made = GraphProto(name=body.name)
        made.node.extend(stripped(list(body.node), prefix, inputs))
        for entry in body.initializer:
            made.initializer.add().CopyFrom(entry)
            made.initializer[-1].name = back(entry.name)
        for field in ("input", "output"):  # what a body declares of tensors from around it may be forgotten
            for entry in getattr(body, field):
                getattr(made, field).add(name=back(entry.name))
        return made

    found = []
    for each in nodes:
        copy = NodeProto()
        copy.CopyFrom(each)
        copy.name = back(each.name)
        copy.input[:] = [back(name) for name in each.input]
        copy.output[:] = [back(name) for name in each.output]
        for attribute in copy.attribute:
            if attribute.type == AttributeProto.GRAPH:
                attribute.g.CopyFrom(graph_back(attribute.g))
        found.append(copy)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_part_with_bodies_in_bodies_reads_as_it_did(seed: int) -> None:
    model = Model.from_proto(random_proto(seed))
    if {tensor.name for tensor in model.outputs} & {"x", "y"}:
        with pytest.raises(InvalidModel, match="hands its input"):
            beside({"a/": model, "b/": model})
        return
    whole = beside({"a/": model, "b/": model})
    assert broken_links(whole) == []
    written, alone = whole.to_proto().graph, model.to_proto().graph
    count = len(alone.node)
    inputs = frozenset({"x", "y"})
    assert stripped(list(written.node[:count]), "a/", inputs) == stripped(list(alone.node), "", inputs)
    assert stripped(list(written.node[count:]), "b/", inputs) == stripped(list(alone.node), "", inputs)


def test_the_reading_notices_a_name_that_was_left_out() -> None:
    model = Model.from_proto(random_proto(3))
    whole = beside({"a/": model})
    whole.graph.nodes[0].outputs[0].name = "other"
    with pytest.raises(AssertionError, match="other"):
        stripped(list(whole.to_proto().graph.node), "a/", frozenset({"x", "y"}))


def test_branches_see_the_shared_input() -> None:
    model = Model.from_proto(branch(graph([node("Exp", ["x"], ["t"])], [], [info("t")])))
    whole = beside({"a/": model, "b/": model})
    x = np.array([0.0, 1.0], np.float32)
    found = run(whole, {"x": x, "c": np.array(True)})
    np.testing.assert_allclose(np.float64(found["b/y"]), np.exp(x), rtol=1e-6)


def test_functions_are_kept_once() -> None:
    model = Model.from_proto(calling([node("Twice", ["x"], ["y"], domain="my")], [TWICE]))
    whole = beside({"a/": model, "b/": model})
    assert [entry.name for entry in whole.functions] == ["Twice"]
    x = np.array([1.0, 2.0], np.float32)
    alone = run(model, {"x": x})["y"]
    np.testing.assert_array_equal(run(whole, {"x": x})["b/y"], alone)


def test_what_cannot_be_together_is_refused() -> None:
    twice = calling([node("Twice", ["x"], ["y"], domain="my")], [TWICE])
    other = function("Twice", ["a"], ["b"], [node("Neg", ["a"], ["b"])])
    thrice = calling([node("Twice", ["x"], ["y"], domain="my")], [other])
    for message, parts in {
        "operator set 18": (net(), net(opset=18)),
        "another function 'Twice'": (Model.from_proto(twice), Model.from_proto(thrice)),
    }.items():
        with pytest.raises(InvalidModel, match=message):
            beside({"a/": parts[0], "b/": parts[1]})
    b = Builder()
    with pytest.raises(InvalidModel, match=r"takes 'x' as float32 \['N', 5\]"):
        beside({"a/": net(), "b/": b.model(b.relu(b.input(["N", 5], "x")))})
    named = Builder()
    clashing = named.model(named.op("Relu", named.input(["N", 3], "x"), name="b/relu_1"))
    plain = Builder()
    with pytest.raises(InvalidModel, match="makes a second"):
        beside({"": clashing, "b/": plain.model(plain.op("Relu", plain.input(["N", 3], "x"), name="relu_1"))})
    with pytest.raises(InvalidModel, match="no models"):
        beside({})


@pytest.mark.parametrize("as_nodes", [False, True])
def test_two_views_go_through_the_same_weights(as_nodes: bool) -> None:
    model = net(1)
    if as_nodes:  # weights as outputs of Constant nodes
        for name, constant in list(model.graph.initializers.items()):
            held = gs.Constant("value", constant.values)
            out = gs.Variable(f"{name}_held", np.dtype(np.float32), list(constant.shape))
            redirect(model.graph, constant, out)
            model.graph.nodes.insert(0, gs.Node("Constant", name, {"value": held}, [], [out]))
            del model.graph.initializers[name]
    whole = twice(model, "b/")
    check(whole)
    assert broken_links(whole) == []
    assert [tensor.name for tensor in whole.inputs] == ["x", "b/x"]
    assert list(whole.weights) == list(model.weights)
    assert len(whole.nodes("Constant")) == len(model.nodes("Constant"))
    rng = np.random.default_rng(0)
    one, other = (rng.standard_normal((5, 3)).astype(np.float32) for _ in range(2))
    found = run(whole, {"x": one, "b/x": other})
    name = model.outputs[0].name
    np.testing.assert_array_equal(found[name], run(model, {"x": one})[name])
    np.testing.assert_array_equal(found[f"b/{name}"], run(model, {"x": other})[name])
