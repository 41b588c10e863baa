"""What is written for arithmetic and activations, and numbers at the ends of their types."""

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.optable.activations import hard_sigmoid, prelu, softplus
from graphrewrite.bridge.optable.arithmetic import div, mod, power
from graphrewrite.bridge.optable.norm import lp_normalization
from graphrewrite.bridge.optable.reduce import reduce_l2
from graphrewrite.ir import Array, Model
from tests.engine.bridge.backend import with_weights
from tests.engine.bridge.nodes import bridged, by_onnxruntime, feeds, node_model, same

X = np.asarray([[-2.0, -0.5, 0.0, 1.5]], np.float32)
LARGE = [0, 1, 2, 7, 2**31, 2**63 - 1, 2**63, 2**63 + 5, 2**64 - 2, 2**64 - 1]


def module(
    op: str,
    given: list[Array | None],
    attributes: dict[str, object] | None = None,
    opset: int = 13,
) -> GraphModule:
    """Return a node whose inputs but the first are constants as a module."""
    proto = node_model(op, given, 1, attributes, opset=opset)
    return GraphModule(Model.from_proto(with_weights(proto, feeds(given)))).eval()


def targets(of: GraphModule) -> list[object]:
    return [node.target for node in of.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize(
    ("op", "given", "wanted"),
    [
        ("Add", [X, X], torch.add),
        ("Mul", [X, X], torch.mul),
        ("Div", [X, X], torch.div),
        ("Relu", [X], torch.relu),
        ("Less", [X, X], torch.lt),
        ("Pow", [X, np.asarray(2.0, np.float32)], torch.square),
        ("Pow", [X, np.asarray(3, np.int64)], torch.pow),
        ("Clip", [X, np.asarray(0.0, np.float32), np.asarray(6.0, np.float32)], functional.hardtanh),
        ("Clip", [X, np.asarray(0.0, np.float32)], torch.clamp),
    ],
)
def test_common_operators_are_one_call_of_torch(op: str, given: list[Array | None], wanted: object) -> None:
    assert targets(module(op, given)) == [wanted]


def test_sums_and_means_over_known_axes_are_one_call_of_torch() -> None:
    given: list[Array | None] = [X, np.asarray([-1], np.int64)]
    assert targets(module("ReduceMean", given, opset=18)) == [torch.mean]
    assert targets(module("ReduceSum", given)) == [torch.sum]


@pytest.mark.parametrize("op", ["Identity", "Clip"])
def test_what_changes_nothing_is_not_written(op: str) -> None:
    assert targets(module(op, [X])) == []


def test_forms_that_write_calls_are_computed_at_once_on_constants() -> None:
    proto = with_weights(node_model("Pow", [X, X], opset=13), {})
    for value in list(proto.graph.input):
        proto.graph.input.remove(value)
    inputs = {"x0": np.asarray([3, 4], np.int64), "x1": np.asarray(2, np.int64)}
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in inputs.items())
    found = GraphModule(Model.from_proto(proto))
    assert targets(found) == [] and found().tolist() == [9, 16]


def test_whole_numbers_of_64_bits_are_divided_as_python_divides_them() -> None:
    pairs = [(a, b) for a in LARGE for b in LARGE if b]
    first, second = (torch.from_numpy(np.asarray(column, np.uint64)) for column in zip(*pairs, strict=True))
    assert div(first, second).tolist() == [a // b for a, b in pairs]
    assert mod(first, second).tolist() == [a % b for a, b in pairs]


def test_signs_of_remainders() -> None:
    a, b = torch.tensor([-7, 7, -7, 7]), torch.tensor([3, -3, -3, 3])
    assert mod(a, b).tolist() == [2, -2, -1, 1]
    assert mod(a, b, fmod=1).tolist() == [-1, 1, -1, 1]
    assert div(a, b).tolist() == [-2, -2, 2, 2]


def test_gradients_of_powers() -> None:
    x = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    exponent = torch.tensor([2.0, -1.5, 0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(power, [x, exponent])
    whole = torch.tensor([-2.0, 3.0], dtype=torch.float64, requires_grad=True)
    power(whole, torch.tensor([3, 2])).sum().backward()
    assert whole.grad is not None and whole.grad.tolist() == [12, 6]


def test_bounds_the_wrong_way_round_give_the_upper() -> None:
    for low, high in ((3.0, 1.0), (1e6, 1.0)):  # as numbers, as tensors
        given: list[Array | None] = [X, np.asarray(low, np.float32), np.asarray(high, np.float32)]
        found = module("Clip", given).run({"x0": X})
        assert np.all(next(iter(found.values())) == 1)


def test_bounds_too_large_for_half_precision_survive_autocast() -> None:
    given: list[Array | None] = [X, np.asarray(-3.4e38, np.float32), np.asarray(1.0, np.float32)]
    found = module("Clip", given)(torch.from_numpy(X).half())
    assert found.dtype == torch.float16 and found.tolist() == [[-2, -0.5, 0, 1]]


def test_a_slope_per_channel_is_trained() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    found = module("PRelu", [x, np.asarray([[0.1], [0.2], [0.3]], np.float32)], opset=16)
    (name, slope), *others = found.named_parameters()
    found(torch.from_numpy(x)).sum().backward()
    wanted = np.minimum(x, 0).sum((0, 2))
    assert not others and slope.grad is not None, name
    np.testing.assert_allclose(slope.grad.reshape(-1).numpy(), wanted, rtol=1e-5)
    broadcast = prelu(torch.from_numpy(x), slope.expand(2, 3, 4))
    torch.testing.assert_close(found(torch.from_numpy(x)), broadcast)


def test_hard_sigmoid_with_a_slope_of_a_sixth() -> None:
    x = torch.linspace(-4, 4, 33)
    wanted = torch.clamp(x / 6 + 0.5, 0, 1)
    torch.testing.assert_close(hard_sigmoid(x, alpha=float(np.float32(1 / 6))), wanted)
    torch.testing.assert_close(hard_sigmoid(x, alpha=0.2), torch.clamp(0.2 * x + 0.5, 0, 1))


def test_softplus_is_exact_in_double_precision() -> None:
    x = torch.tensor([-30.0, 0.0, 21.0, 35.0, 800.0], dtype=torch.float64)
    torch.testing.assert_close(softplus(x), torch.logaddexp(x, torch.zeros_like(x)), rtol=1e-15, atol=0)


def test_lengths_of_nothing_have_a_gradient() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    (reduce_l2(x, (1,), False).sum() + lp_normalization(x).sum()).backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize("op", ["Sign", "Relu", "ThresholdedRelu", "Floor", "Clip", "Max", "ArgMax"])
def test_what_is_not_a_number_goes_where_onnxruntime_sends_it(op: str) -> None:
    x = np.asarray([1, np.nan, -2, np.inf], np.float32)
    others: dict[str, list[Array | None]] = {
        "Clip": [np.asarray(-1, np.float32), np.asarray(1, np.float32)],
        "Max": [x[::-1].copy()],
    }
    given = [x, *others.get(op, [])]
    proto = node_model(op, given, opset=17)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))
