"""Norms that learn behind rounded layers: folded at the end, they leave every code as it was."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from graphrewrite.bridge import GraphModule, attach, fold
from graphrewrite.bridge.transforms.magnitude import Magnitude
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant.aware import Placed, Scheme, place
from graphrewrite.passes.quant.learned import read, written
from graphrewrite.passes.quant.norms import Norm, fold_in, put_back, take_away
from graphrewrite.passes.quant.quantizers import Quantizer
from graphrewrite.passes.quant.quantizers.lsq import Lsq
from graphrewrite.passes.quant.quantizers.n2uq import N2uq
from graphrewrite.passes.quant.quantizers.pams import Pams
from graphrewrite.pipeline import Context
from graphrewrite.runtime import run
from tests.passes.quant.learning import Singles, feed, taught

QUANTIZERS = [Lsq(2), Lsq(3, per_channel=False), Lsq(8), Pams(4), N2uq(2)]


def norm(b: Builder, x: gs.Tensor, channels: int) -> gs.Variable:
    """A norm with factors of both signs, one of them zero."""
    gain = b.rng.uniform(0.5, 1.5, channels) * np.where(np.arange(channels) % 2, -1, 1)
    gain[2] = 0
    numbers = (gain, b.rng.standard_normal(channels), b.rng.standard_normal(channels), np.full(channels, 0.7))
    return b.op("BatchNormalization", x, *(b.constant(np.array(each, np.float32)) for each in numbers))


def net(seed: int = 0) -> Model:
    """Norms behind a convolution with a bias, one without, and a product."""
    b = Builder(seed=seed)
    hidden = b.relu(norm(b, b.conv(b.input(["N", 1, 8, 8], "x"), 4, 1, name="a"), 4))
    hidden = b.relu(norm(b, b.conv(hidden, 6, 4, bias=False, name="b"), 6))
    pooled = b.op("Flatten", b.op("MaxPool", hidden, kernel_shape=[4, 4], strides=[4, 4]))
    return b.model(b.linear(b.relu(norm(b, b.linear(pooled, 8, 24, name="c"), 8)), 5, 8, name="d"))


def answer(model: Model, x: Singles) -> Singles:
    """Return the one output, computed as the graph stands."""
    (values,) = run(model, {"x": x}).values()
    return np.asarray(values, np.float32)


def apart(left: Singles, right: Singles) -> float:
    """Return the largest difference by the largest number."""
    return float(np.abs(left - right).max() / np.abs(right).max())


def learned_with(quantizer: Quantizer) -> tuple[Placed, tuple[Norm, ...], GraphModule]:
    """Return a net with its norms after a little training, and what was placed in it."""
    bare = net()
    norms = take_away(bare, Context())
    placed = place(bare, Scheme(quantizer), {})
    module = GraphModule(put_back(placed.model, norms))
    attach(module, {**placed.transforms, **{each.gain: Magnitude() for each in norms}})
    return placed, norms, taught(module, 4)


def test_taken_away_and_put_back_they_are_what_they_were() -> None:
    model, x = net(), feed()
    bare = model.clone()
    norms = take_away(bare, Context())

    assert len(norms) == 3 and not bare.nodes("BatchNormalization")
    assert all(len(node.inputs) == 3 for node in bare.graph.nodes if node.op in ("Conv", "Gemm"))
    back = put_back(bare, norms)
    assert len(back.nodes("BatchNormalization")) == 3
    assert [np.asarray(back.weights[each.gain]).min() >= 0 for each in norms] == [True] * 3
    assert np.array_equal(answer(back, x), answer(model, x))
    assert apart(answer(fold_in(back, norms), x), answer(model, x)) < 1e-6
    assert apart(answer(bare, x), answer(model, x)) > 0.1
    assert set(back.weights) == set(model.weights)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_what_is_deployed_has_the_codes_that_were_trained(quantizer: Quantizer) -> None:
    placed, norms, module = learned_with(quantizer)
    x = feed()
    before = fold(module)
    after = fold_in(before, norms)
    learned = read(placed, after)

    for layer in placed.choice.layers.values():
        name = layer.node.inputs[1].name
        codes, steps, axis = learned.weights[name]
        trained = np.asarray(before.weights[name]).astype(int)
        gone = np.moveaxis(codes, axis, 0).reshape(codes.shape[axis], -1).any(axis=1) == 0
        kept = np.moveaxis(trained, axis, 0).reshape(codes.shape[axis], -1)
        same = np.moveaxis(codes, axis, 0).reshape(codes.shape[axis], -1) == kept
        assert same[~gone].all() and gone.sum() <= 1 and (steps > 0).all()
    wanted = np.asarray(next(iter(module.run({"x": x}).values())))
    assert apart(answer(before, x), wanted) < 1e-5 and apart(answer(after, x), wanted) < 1e-5
    deployed = written(placed, learned, integers=True)
    assert not deployed.nodes("BatchNormalization")
    assert np.array_equal(answer(deployed, x), answer(written(placed, learned, integers=False), x))


def test_a_factor_that_is_off_would_be_seen() -> None:
    _, norms, module = learned_with(Lsq(4))
    before = fold(module)
    gain = np.asarray(before.weights[norms[1].gain], np.float32)
    wrong = before.clone()
    wrong.weights[norms[1].gain] = np.where(np.arange(gain.size) == 1, gain * 1.01, gain).astype(np.float32)
    assert apart(answer(fold_in(wrong, norms), feed()), answer(before, feed())) > 1e-4


def test_a_gain_that_is_carried_through_zero_comes_back() -> None:
    form = Magnitude().module(torch.ones(3))
    gain = torch.tensor([0.5, 0.0, -0.25], requires_grad=True)
    form(gain).sum().backward()
    assert form(gain).tolist() == [0.5, 0.0, 0.25] and gain.grad is not None
    assert gain.grad.tolist() == [1.0, 1.0, -1.0]


def test_norms_that_cannot_come_back_are_folded() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 1, 8, 8], "x")
    twice = norm(b, norm(b, b.conv(x, 4, 1, name="a"), 4), 4)
    first = norm(b, b.conv(twice, 4, 4, bias=False, name="shared"), 4)
    weight = next(node.inputs[1] for node in b.graph.nodes if node.name == "shared")
    attributes = next(node.attrs for node in b.graph.nodes if node.name == "shared")
    second = norm(b, b.op("Conv", b.relu(first), weight, **attributes), 4)
    model = b.model(b.relu(second))
    bare = model.clone()

    assert not take_away(bare, Context()) and not bare.nodes("BatchNormalization")
    assert apart(answer(bare, feed()), answer(model, feed())) < 1e-5


def test_a_norm_behind_a_tensor_that_others_read_stays_where_it_is() -> None:
    b = Builder(seed=0)
    inner = b.conv(b.input(["N", 1, 8, 8], "x"), 4, 1, name="a")
    model = b.model(b.add(b.relu(norm(b, inner, 4)), inner))

    assert not take_away(model, Context()) and len(model.nodes("BatchNormalization")) == 1
