"""Named tensors out of a module: equal to what onnxruntime finds, over the same weights."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge import GraphModule, tapped
from graphrewrite.errors import InvalidData, UnknownNameError
from graphrewrite.ir import Builder, Model
from graphrewrite.runtime import run
from tests.support.tolerances import FLOAT32, relative


def two_layers() -> Model:
    b = Builder(seed=0)
    x = b.input(["N", 6], "x")
    hidden = b.relu(b.linear(x, 5, 6, name="first"))
    sizes = b.op("Concat", b.constant(np.array([-1])), b.constant(np.array([5])), axis=0, name="sizes")
    return b.model(b.linear(b.op("Reshape", hidden, sizes), 2, 5, name="last"))


FEED = np.random.default_rng(0).standard_normal((7, 6)).astype(np.float32)


def test_taps_are_the_tensors_of_the_graph() -> None:
    model = two_layers()
    names = ["first_out", "x", "last_out", "first_out"]
    found = tapped(GraphModule(model), names)({"x": torch.from_numpy(FEED)})
    want = run(model, {"x": FEED}, ["last_out", "first_out"])
    assert list(found) == ["last_out", "first_out", "x"]
    for name, array in want.items():
        assert relative(found[name].detach().numpy(), array) <= FLOAT32


def test_a_tapped_module_trains_the_module_it_was_made_from() -> None:
    module = GraphModule(two_layers())
    net = tapped(module, ["first_out"])
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    loss = net({"x": torch.from_numpy(FEED)})["first_out"].square().sum()
    loss.backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    changed = [name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == list(before)[:2]
    assert set(net.body.state_dict()) == set(module.state_dict())


def test_constants_are_no_part_of_the_state() -> None:
    b = Builder(seed=0)
    model = b.model(b.add(b.linear(b.input(["N", 6], "x"), 5, 6), b.constant(np.float32(2.5), "shift")))
    module = GraphModule(model)
    assert set(tapped(module, []).body.state_dict()) == set(module.state_dict())
    assert "shift" in module.frozen


@pytest.mark.parametrize(
    ("name", "message"),
    [("first_ou", "did you mean first_out"), ("sizes_out", "is a constant"), ("c_99", "no tensor")],
)
def test_what_cannot_be_read_is_said(name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        tapped(GraphModule(two_layers()), [name])


def test_a_missing_input_is_named() -> None:
    with pytest.raises(InvalidData, match="'x'"):
        tapped(GraphModule(two_layers()), [])({})
