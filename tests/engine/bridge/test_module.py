"""A graph as a torch module: names, what is trained, what comes back, and what torch can do with it."""

import copy
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
import torch

from graphrewrite.bridge import GraphModule
from graphrewrite.errors import InvalidConfig, InvalidData, ShapeError, UnknownNameError, UnsupportedOp
from graphrewrite.ir import Builder, Model


def two_layers(*names: str) -> Model:
    """Return x @ w0 -> relu -> @ w1 with weights of these names."""
    b = Builder(seed=0)
    x = b.input(["N", 4], "x")
    first = b.op("MatMul", x, b.constant(b.rng.standard_normal((4, 6)).astype(np.float32)))
    second = b.op("MatMul", b.relu(first), b.constant(b.rng.standard_normal((6, 3)).astype(np.float32)))
    model = b.model(second)
    for constant, name in zip(list(model.graph.initializers.values()), names, strict=False):
        constant.name = name
    model.graph.initializers = {constant.name: constant for constant in model.graph.initializers.values()}
    return model


def batch(size: int = 5, wide: int = 4) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((size, wide)).astype(np.float32))


@pytest.mark.parametrize(
    "names",
    [
        ("layer.0.weight", "layer.1.weight"),
        ("onnx::MatMul_12", "/model/Constant.1_output_0"),
        ("a.b", "a.b.c"),  # one is the other's prefix
        ("a..b", ".c"),
        ("forward", "training"),
        ("graph", "named_parameters"),
        ("weight", "1"),
    ],
)
def test_the_state_is_keyed_by_the_names_of_the_file(names: tuple[str, str]) -> None:
    module = GraphModule(two_layers(*names))
    assert set(module.state_dict()) == set(names)
    other = GraphModule(two_layers(*names))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(batch()), module(batch()))
    for name in names:
        assert isinstance(module.weight_named(name), torch.nn.Parameter)


def test_names_survive_a_deep_copy() -> None:
    module = GraphModule(two_layers("a.b", "a.b.c"))
    twin = copy.deepcopy(module)
    assert set(twin.state_dict()) == {"a.b", "a.b.c"}
    assert torch.equal(twin(batch()), module(batch()))
    with torch.no_grad():
        twin.weight_named("a.b").add_(1)
    assert not np.array_equal(twin.write_back().weights["a.b"], module.write_back().weights["a.b"])


def test_without_training_the_same_bytes_come_back(tmp_path: Path) -> None:
    model = two_layers("a", "b")
    model.metadata["author"] = "somebody"
    assert (
        GraphModule(model).write_back().to_proto().SerializeToString() == model.to_proto().SerializeToString()
    )


def test_external_data_comes_back_as_it_was(tmp_path: Path) -> None:
    b = Builder(seed=0)
    onnx.save(
        b.model(b.linear(b.input(["N", 64], "x"), 64, 64)).to_proto(),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="m.onnx.data",
    )
    model = Model.load(tmp_path / "m.onnx")
    model.save(tmp_path / "plain.onnx")
    GraphModule(model).write_back().save(tmp_path / "back.onnx")
    plain, back = ((tmp_path / f"{stem}.onnx.data").read_bytes() for stem in ("plain", "back"))
    assert plain == back


def test_a_trained_weight_and_nothing_else_changes() -> None:
    model = two_layers("a", "b")
    module = GraphModule(model, frozen=["b"])
    module(batch()).square().mean().backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    back = module.write_back()
    assert not np.array_equal(back.weights["a"], model.weights["a"])
    assert back.weights["b"] is not None and np.array_equal(back.weights["b"], model.weights["b"])
    assert [node.op for node in back.nodes()] == [node.op for node in model.nodes()]
    assert module.frozen == {"b": "asked for"}
    again = GraphModule(back, frozen=["b"])
    assert torch.equal(again(batch()), module(batch()))


def test_a_tied_weight_is_one_parameter() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 4], "x")
    tied = b.constant(b.rng.standard_normal((4, 4)).astype(np.float32))
    model = b.model(b.op("MatMul", b.relu(b.op("MatMul", x, tied)), tied))
    module = GraphModule(model)
    (parameter,) = module.parameters()
    module(batch()).sum().backward()
    h = torch.relu(batch() @ parameter)
    one, two = (parameter.detach().clone().requires_grad_() for _ in range(2))
    (torch.relu(batch() @ one) @ two).sum().backward()
    assert one.grad is not None and two.grad is not None and parameter.grad is not None and h is not None
    assert torch.allclose(parameter.grad, one.grad + two.grad, rtol=1e-5)


def test_what_is_not_trained_says_why() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 4], "x")
    weight = b.constant(b.rng.standard_normal((4, 4)).astype(np.float32))
    single = b.constant(np.array(0.5, np.float32))
    mask = b.constant(np.array([[0, -np.inf, 0, 0]], np.float32))
    unread = gs.Constant("unread", np.ones(3, np.float32))
    model = b.model(b.add(b.add(b.op("MatMul", x, weight), single), mask))
    model.graph.initializers["unread"] = unread
    module = GraphModule(model)
    assert [name for name, _ in module.named_parameters()] == [weight.name]
    assert module.frozen == {
        single.name: "a single number; name it to train it",
        mask.name: "a mask: it holds infinities or numbers beyond any weight",
        "unread": "nothing reads it",
    }
    assert {name for name, _ in GraphModule(model, trainable=[single.name]).named_parameters()} == {
        weight.name,
        single.name,
    }
    with pytest.raises(UnknownNameError, match="no weight is called 'nobody'"):
        GraphModule(model, frozen=["nobody"])
    with pytest.raises(UnknownNameError, match="a single number"):
        module.weight_named(single.name)


def test_what_no_gradient_gets_to_is_not_trained() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 4], "x")
    weight, bound, size, whole, pull = (
        b.constant(b.rng.uniform(1, 2, shape).astype(np.float32)) for shape in ((4, 4), 4, 2, 4, 4)
    )
    scores = b.op("MatMul", x, weight)
    over = b.op("Greater", scores, b.op("Abs", bound))  # the bound has a gradient, what comes of it has none
    chosen = b.op("Where", over, scores, b.op("Neg", scores))
    counted = b.op("Cast", b.op("Cast", b.op("Exp", whole), to=6), to=1)
    best = b.op_all("TopK", b.op("Mul", scores, pull), b.constant(np.array([2])), outputs=2)[1]
    chosen = b.op(
        "Add",
        chosen,
        b.op("ReduceSum", b.op("GatherElements", scores, best, axis=1), b.constant(np.array([1]))),
    )
    picture = b.op("Reshape", chosen, b.constant(np.array([-1, 1, 2, 2])))
    scales = b.op("Concat", b.constant(np.ones(2, np.float32)), b.op("Abs", size), axis=0)
    larger = b.op("Resize", picture, None, scales, mode="nearest")
    module = GraphModule(b.model(larger, b.op("Add", chosen, counted)))
    assert {name for name, _ in module.named_parameters()} == {weight.name}
    for frozen in (bound, size, whole, pull):
        assert "no gradient gets to it" in module.frozen[frozen.name]
    sum(out.sum() for out in module(batch())).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    with pytest.raises(InvalidConfig, match="no gradient gets to it"):
        GraphModule(b.model(larger), trainable=[bound.name])


def test_a_gradient_gets_into_bodies_that_lead_on() -> None:
    model = Model.from_proto(
        onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["": 17]>
            g (float[N,4] x, bool yes) => (float[N,4] y)
            <float[4] used = {1,2,3,4}, float[4] carried = {2,1,2,1}, float[4] asked = {0.1,0.2,0,0}> {
                other = If (yes) <
                    then_branch = t () => (bool[N,4] a) { a = Less (x, asked) },
                    else_branch = e () => (bool[N,4] b) { d = Abs (asked) b = Less (d, x) }
                >
                n = Constant <value = int64 {2}> ()
                on = Constant <value = bool {1}> ()
                z = Loop (n, on, x) <body = l (int64 i, bool c, float[N,4] h) => (bool k, float[N,4] o) {
                    k = Identity (c) m = Mul (h, carried) o = Tanh (m)
                }>
                w = Mul (x, used)
                y = Where (other, z, w)
            }"""
        )
    )
    module = GraphModule(model)
    assert set(module.state_dict()) == {"used", "carried"} and "no gradient" in module.frozen["asked"]
    module(batch(), torch.tensor(True)).sum().backward()
    assert all(bool(parameter.grad.any()) for parameter in module.parameters())


def test_gradients_go_through_a_declared_pair_of_quantizers() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 4], "x")
    weight, scale, zero = (
        b.constant(value)
        for value in (b.rng.uniform(-1, 1, (4, 4)).astype(np.float32), np.float32(0.01), np.int8(0))
    )
    levels = b.op("QuantizeLinear", weight, scale, zero)
    levels.dtype = np.dtype(np.int8)  # as a file with shapes written down says
    module = GraphModule(b.model(b.op("MatMul", x, b.op("DequantizeLinear", levels, scale, zero))))
    module(batch()).sum().backward()
    assert bool(module.weight_named(weight.name).grad.any())


def test_nodes_out_of_order_are_run_in_order() -> None:
    proto = two_layers("first", "second").to_proto()
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))  # as a converter to half precision leaves its casts
    module = GraphModule(Model.from_proto(proto))
    assert torch.equal(module(batch()), GraphModule(two_layers("first", "second"))(batch()))
    assert [node.op_type for node in module.write_back().to_proto().graph.node] == [
        "MatMul",
        "Relu",
        "MatMul",
    ]


def test_a_setting_is_trained_when_asked_for() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 4], "x")
    scale, zero = b.constant(np.full(4, 0.1, np.float32)), b.constant(np.zeros(4, np.int8))
    rounded = b.op("QuantizeLinear", x, scale, zero, axis=1)
    model = b.model(b.op("DequantizeLinear", rounded, scale, zero, axis=1))
    assert list(GraphModule(model).parameters()) == []
    module = GraphModule(model, trainable=[scale.name])
    module(batch()).sum().backward()
    assert module.weight_named(scale.name).grad is not None
    with pytest.raises(InvalidConfig, match="cannot be: asked for"):
        GraphModule(model, trainable=[scale.name], frozen=[scale.name])


def test_a_large_constant_node_is_trained_and_written_back() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 4], "x")
    made = gs.Variable("made", np.float32, [4, 4])
    model = b.model(b.op("MatMul", x, made))
    values = np.eye(4, dtype=np.float32)
    model.graph.nodes.insert(
        0, gs.Node("Constant", "constant", {"value": gs.Constant("", values)}, [], [made])
    )
    module = GraphModule(model)
    assert list(module.state_dict()) == ["made"]
    with torch.no_grad():
        module.weight_named("made").mul_(3)
    back = module.write_back()
    assert torch.equal(GraphModule(back)(batch()), 3 * batch())
    assert GraphModule(model).write_back().to_proto() == model.to_proto()


def test_sizes_are_python_numbers_in_the_code() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 4], "x")
    rows = b.op("Gather", b.op("Shape", x), b.constant(np.array([0])))
    model = b.model(b.op("Reshape", x, b.op("Concat", rows, b.constant(np.array([2, 2])), axis=0)))
    module = GraphModule(model)
    assert "from_numbers" not in module.code and "to_numbers" not in module.code
    assert module(batch(7)).shape == (7, 2, 2)


def test_wrong_uses_are_told() -> None:
    module = GraphModule(two_layers("a", "b"))
    with pytest.raises(InvalidData, match="the input 'x' was not given"):
        module.run({})
    with pytest.raises(ShapeError, match="'a' has the shape"):
        module.write_back({"a": torch.zeros(2)})
    b = Builder(seed=0)
    x = b.input([1], "x")
    strange = b.model(b.op("Riddle", x, name="sphinx"))
    strange.graph.nodes[0].domain = "thebes"
    strange.opsets["thebes"] = 3
    with pytest.raises(
        UnsupportedOp, match=r"the node 'sphinx' \(thebes.Riddle, operator set 3\) has no torch form"
    ):
        GraphModule(strange)


def test_it_compiles_without_a_break() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 4], "x")
    h = b.relu(b.linear(x, 8, 4))
    rows = b.op("Gather", b.op("Shape", h), b.constant(np.array([0])))
    model = b.model(b.op("Reshape", h, b.op("Concat", rows, b.constant(np.array([2, 4])), axis=0)))
    module = GraphModule(model)
    found = torch._dynamo.explain(module)(batch())
    assert found.graph_break_count == 0, found.break_reasons
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in (3, 6):
        assert torch.allclose(compiled(batch(size)), module(batch(size)))


def test_autocast_and_half_types() -> None:
    module = GraphModule(two_layers("a", "b"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(batch()).dtype == torch.bfloat16
    assert module.double()(batch().double()).dtype == torch.float64
    assert module.write_back().weights["a"].dtype == np.float32
