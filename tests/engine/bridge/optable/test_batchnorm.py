"""Batch norms: what training moves, graphs exported for training, mixed types, and statistics that cannot move."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from graphrewrite.bridge import GraphModule
from graphrewrite.ir import Array, Builder, Model
from tests.engine.bridge.nodes import agrees, by_reference, node_model

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 3, 5)).astype(np.float32)
ROWS = [np.abs(RNG.standard_normal(3)).astype(np.float32) + 0.5 for _ in range(4)]


def norm(momentum: float = 0.9, training: int = 0, outputs: int = 1) -> GraphModule:
    b = Builder(opset=15, seed=0)
    rows = [b.constant(row, name) for row, name in zip(ROWS, ("scale", "bias", "mean", "var"), strict=True)]
    x = b.input(["N", 3, 5])
    made = b.op_all(
        "BatchNormalization", x, *rows, outputs=outputs, momentum=momentum, training_mode=training
    )
    return GraphModule(b.model(*made))


def test_training_is_that_of_torch() -> None:
    module, own = norm(momentum=0.75), nn.BatchNorm1d(3, momentum=0.25)
    with torch.no_grad():
        for held, row in zip((own.weight, own.bias, own.running_mean, own.running_var), ROWS, strict=True):
            assert held is not None
            held.copy_(torch.from_numpy(row))
    x = torch.from_numpy(X)
    for _ in range(2):
        found, wanted = module.train()(x), own.train()(x)
        found.square().sum().backward()
        wanted.square().sum().backward()
        assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.allclose(module.weight_named("mean"), own.running_mean, atol=1e-6)
    assert torch.allclose(module.weight_named("var"), own.running_var, atol=1e-6)
    assert torch.allclose(module.weight_named("scale").grad, own.weight.grad, rtol=1e-4)
    assert torch.allclose(module.eval()(x), own.eval()(x), atol=1e-6)


def test_evaluation_moves_nothing_and_the_statistics_come_back_into_the_graph() -> None:
    module = norm()
    before = copy.deepcopy(module.state_dict())
    module.eval()(torch.from_numpy(X))
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    module.train()(torch.from_numpy(X))
    written = module.write_back()
    fed = {module.record.inputs[0]: X}
    name = module.record.outputs[0]
    wanted = GraphModule(written).eval().run(fed)[name]
    assert np.allclose(np.asarray(module.eval().run(fed)[name]), np.asarray(wanted))
    assert not torch.equal(before["mean"], module.weight_named("mean"))


@pytest.mark.parametrize("opset", [14, 15, 21])
def test_a_graph_exported_for_training_measures_its_batch(opset: int) -> None:
    given = [X, *ROWS]
    attributes = {"training_mode": 1, "momentum": 0.7}
    assert agrees("BatchNormalization", given, 3, attributes, opset=opset, judge=by_reference)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("samples", [4, 1])
def test_it_moves_its_statistics_while_training_only(outputs: int, samples: int) -> None:
    module, x = norm(momentum=0.5, training=1, outputs=outputs), X[:samples]
    module.eval()(torch.from_numpy(x))
    assert torch.equal(module.weight_named("mean"), torch.from_numpy(ROWS[2]))
    found = module.train()(torch.from_numpy(x))
    y = found if outputs == 1 else found[0]
    y.square().sum().backward()
    # By hand: half of the old, half of the batch, with the variance of the batch itself.
    mean, var = x.mean((0, 2)), x.var((0, 2))
    assert np.allclose(module.weight_named("mean").numpy(), 0.5 * ROWS[2] + 0.5 * mean, atol=1e-6)
    assert np.allclose(module.weight_named("var").numpy(), 0.5 * ROWS[3] + 0.5 * var, atol=1e-6)
    wanted = (x - mean[:, None]) / np.sqrt(var[:, None] + 1e-5) * ROWS[0][:, None] + ROWS[1][:, None]
    assert np.allclose(y.detach().numpy(), wanted, atol=1e-5)
    assert module.weight_named("scale").grad is not None


def test_a_batch_of_one_number_is_its_own_mean() -> None:
    module = norm(momentum=0.5, training=1)
    b = module.train()(torch.from_numpy(X[:1, :, :1]))
    assert np.allclose(b.detach().numpy()[0, :, 0], ROWS[1], atol=1e-3)
    assert np.allclose(module.weight_named("var").numpy(), 0.5 * ROWS[3], atol=1e-6)


def test_before_version_14_more_outputs_mean_training() -> None:
    proto = node_model("BatchNormalization", [X, *ROWS], 5, {"momentum": 0.5}, opset=9)
    found = GraphModule(Model.from_proto(proto)).eval()(*map(torch.from_numpy, [X, *ROWS]))
    assert np.allclose(found[0].mean((0, 2)), ROWS[1], atol=1e-5)
    assert np.allclose(found[1], 0.5 * ROWS[2] + 0.5 * X.mean((0, 2)), atol=1e-6)
    assert np.allclose(found[4], X.var((0, 2)), atol=1e-6)


def test_statistics_for_every_number_of_version_7() -> None:
    rows = [np.abs(RNG.standard_normal((3, 5))).astype(np.float32) + 0.5 for _ in range(4)]
    proto = node_model("BatchNormalization", [X, *rows], 1, {"spatial": 0}, opset=7)
    (found,) = (
        GraphModule(Model.from_proto(proto)).run({f"x{i}": a for i, a in enumerate([X, *rows])}).values()
    )
    scale, bias, mean, var = rows
    assert np.allclose(np.asarray(found), (X - mean) / np.sqrt(var + 1e-5) * scale + bias, atol=1e-5)


def test_statistics_that_the_graph_computes_stay_and_hand_on_gradients() -> None:
    b = Builder(seed=0)
    scale, shared, var = (b.constant(ROWS[i], name) for i, name in ((0, "scale"), (1, "shared"), (3, "var")))
    mean = b.op("Add", shared, shared)
    module = GraphModule(b.model(b.op("BatchNormalization", b.input(["N", 3, 5]), scale, shared, mean, var)))
    x = torch.from_numpy(X)
    before = module.eval()(x)
    trained = module.train()(x)
    assert torch.equal(before, trained)
    trained.sum().backward()
    # By hand: as bias each number counts 20 times, twice as mean -20 times its factor.
    factor = ROWS[0] / np.sqrt(ROWS[3] + 1e-5)
    assert np.allclose(module.weight_named("shared").grad.numpy(), 20 - 40 * factor, atol=1e-4)


def halves(*arrays: Array) -> list[Array]:
    return [array.astype(np.float16) for array in arrays]


@pytest.mark.parametrize("training", [0, 1])
def test_half_precision_with_single_statistics(training: int) -> None:
    given = [*halves(X, *ROWS[:2]), *ROWS[2:]]
    module = GraphModule(
        Model.from_proto(node_model("BatchNormalization", given, 1, {"training_mode": training}))
    )
    (found,) = module.eval().run({f"x{i}": array for i, array in enumerate(given)}).values()
    scale, bias = (array.astype(np.float32)[:, None] for array in given[1:3])
    wide = given[0].astype(np.float32)
    mean, var = (wide.mean((0, 2)), wide.var((0, 2))) if training else ROWS[2:]
    wanted = (wide - mean[:, None]) / np.sqrt(var[:, None] + 1e-5) * scale + bias
    assert np.asarray(found).dtype == np.float16
    assert np.allclose(np.asarray(found, np.float32), wanted, atol=1e-2)


def test_mixed_types_train_in_the_type_of_the_statistics() -> None:
    b = Builder(opset=15, seed=0)
    rows = [b.constant(row, name) for row, name in zip(halves(*ROWS[:2]), ("scale", "bias"), strict=True)]
    rows += [b.constant(row, name) for row, name in zip(ROWS[2:], ("mean", "var"), strict=True)]
    x = b.input(["N", 3, 5], dtype=np.float16)
    module = GraphModule(b.model(b.op("BatchNormalization", x, *rows), dtypes=[np.float16])).train()
    found = module(torch.from_numpy(X).half())
    found.sum().backward()
    assert found.dtype == torch.float16
    assert np.allclose(module.weight_named("mean").numpy(), 0.9 * ROWS[2] + 0.1 * X.mean((0, 2)), atol=1e-3)
    assert module.weight_named("bias").grad.tolist() == [20, 20, 20]
