"""Zeros of each output become 0: codes are the same whole numbers, and kernels take them."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder, Model, constant_value
from graphrewrite.passes.quant.recentre import recentre
from graphrewrite.runtime import run
from tests.passes.quant.learning import Singles, feed
from tests.passes.quant.nets import served

WIDTH = 20


def rounded(b: Builder, x: gs.Tensor, step: float) -> gs.Variable:
    """Return x in steps, from zero to 15 of them."""
    scale, zero = b.constant(np.float32(step)), b.constant(np.uint8(0))
    codes = b.op("QuantizeLinear", x, scale, zero)
    return b.op("DequantizeLinear", b.op("Clip", codes, zero, b.constant(np.uint8(15))), scale, zero)


def coded(b: Builder, shape: tuple[int, ...], highest: int) -> gs.Variable:
    """Return a weight that is codes from 0 to `highest`, with a step and a zero for each output."""
    codes = b.rng.integers(0, highest + 1, shape).astype(np.uint8)
    steps = b.rng.uniform(0.01, 0.03, shape[0]).astype(np.float32)
    zeros = b.rng.integers(highest // 3, highest // 2 + 2, shape[0]).astype(np.uint8)
    return b.op("DequantizeLinear", *(b.constant(each) for each in (codes, steps, zeros)), axis=0)


def net(highest: int = 15) -> Model:
    """Three convolutions and a product: the first reads floats, what the third gives is averaged in floats."""
    b = Builder(seed=0)
    x, inside = b.input(["N", 1, 8, 8], "x"), 1
    for name in ("first", "second", "third"):
        weight, bias = (
            coded(b, (WIDTH, inside, 3, 3), highest),
            b.rng.standard_normal(WIDTH).astype(np.float32),
        )
        x, inside = b.relu(b.op("Conv", x, weight, b.constant(bias), name=name, pads=[1] * 4)), WIDTH
        x = rounded(b, x, 0.2) if name != "third" else x
    pooled = rounded(b, b.op("Flatten", b.op("GlobalAveragePool", x)), 0.05)
    bias = b.rng.standard_normal(5).astype(np.float32)
    return b.model(
        b.op("Gemm", pooled, coded(b, (5, WIDTH), highest), b.constant(bias), transB=1, name="head")
    )


def values(model: Model, node: str, slot: int) -> Singles:
    """Return what a layer reads, computed as the graph stands."""
    (layer,) = (each for each in model.graph.nodes if each.name == node)
    return np.asarray(
        run(model, {"x": feed(2)}, [layer.inputs[slot].name])[layer.inputs[slot].name], np.float32
    )


@pytest.mark.parametrize("highest", [3, 15, 100])
def test_weights_keep_their_values_and_layers_between_codes_compute_in_integers(highest: int) -> None:
    before = net(highest)
    after = before.clone()

    assert recentre(after) == ["second", "head"]

    for name in ("first", "second", "third", "head"):
        assert np.array_equal(values(before, name, 1), values(after, name, 1)), name
    zeros = [
        constant_value(node.inputs[2]) for node in after.nodes("DequantizeLinear") if len(node.inputs) > 2
    ]
    assert not any(np.any(np.asarray(each)) for each in zeros)
    kernels = served(after)
    assert (kernels["QLinearConv"], kernels["QGemm"]) == (1, 1)
    assert (
        kernels["Conv"] + kernels["FusedConv"] == 2
    )  # with weights in floats: nothing is taken from codes at work
    assert kernels["DequantizeLinear"] == 1 and kernels["Sub"] == kernels["Mul"] == 0
    assert served(before)["DequantizeLinear"] > 1


def test_kernels_give_the_codes_of_the_graph_as_it_stands() -> None:
    model, x = net(), {"x": feed(64)}
    recentre(model)
    (plain,), (kernels,) = (run(model, x, optimize=on).values() for on in (False, True))
    # A sum of floats near the middle between two codes may fall on either side.
    same = np.isclose(plain, kernels, rtol=0, atol=1e-5).all(axis=1)
    assert same.mean() > 0.95 and np.ptp(np.asarray(plain, np.float32)) > 1


def test_biases_are_off_by_half_a_unit_at_most() -> None:
    before, after = net(), net()
    recentre(after)
    (layer,) = (each for each in after.graph.nodes if each.name == "head")
    unit = constant_value(layer.inputs[2].inputs[0].inputs[1])
    away = np.abs(values(before, "head", 2) - values(after, "head", 2))
    assert away.max() > 0 and (away <= np.asarray(unit, np.float64) * 0.501).all()


def test_few_bits_are_filed_packed() -> None:
    sizes = {}
    for highest in (3, 15, 100):
        model = net(highest)
        recentre(model)
        sizes[highest] = sum(np.asarray(each).nbytes for each in model.weights.values())
    weights = WIDTH * WIDTH * 9
    assert sizes[100] - sizes[15] == pytest.approx(2 * weights / 2, abs=600)
    assert sizes[15] - sizes[3] == pytest.approx(2 * weights / 4, abs=600)


def test_codes_that_reach_too_far_from_their_zero_stay_as_they_are() -> None:
    before = net(255)
    after = before.clone()
    assert recentre(after) == []
    assert np.array_equal(values(before, "second", 1), values(after, "second", 1))
    (kept,) = (node.inputs[1].inputs[0] for node in after.graph.nodes if node.name == "second")
    assert kept.op == "DequantizeLinear" and kept.inputs[0].dtype == np.uint8
    (plain,), (kernels,) = (run(after, {"x": feed()}, optimize=on).values() for on in (False, True))
    assert np.isclose(plain, kernels, rtol=0, atol=1e-4).all(axis=1).mean() > 0.9


def test_what_is_no_weight_of_a_layer_is_left_alone() -> None:
    b = Builder(seed=0)
    model = b.model(b.add(b.input(["N", 4], "x"), coded(b, (4, 4), 3)))
    assert recentre(model) == [] and len(model.nodes("DequantizeLinear")) == 1
