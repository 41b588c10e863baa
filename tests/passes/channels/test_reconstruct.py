"""Least-squares reconstruction: what can be predicted of removed channels from kept ones moves into the weights."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.edit import redirect
from graphrewrite.passes.channels import Ratio, RemoveChannels
from graphrewrite.passes.channels.reconstruct import reconstructions
from graphrewrite.passes.channels.reconstruct.least_squares import LeastSquares
from graphrewrite.pipeline import Context, Note
from tests.passes.channels.nets import (
    Wide,
    cut,
    details,
    error,
    floats,
    grouped,
    samples,
    tower,
    values,
    weight,
    without,
)

# Small enough to leave an exact dependence alone, large enough to solve with rounding noise.
EXACT = LeastSquares(ridge=1e-9)
MIX = np.array([0.5, -1.0, 2.0, 0.0, 0.25])


def dependent(reader: str, seed: int = 3) -> Model:
    """Six features; the last is 0.5, -1, 2, 0, 0.25 times the others, minus 3. Nothing bends in between."""
    b = Builder(seed=seed)
    w = b.rng.standard_normal((6, 4))
    w[5] = MIX @ w[:5]
    bias = b.rng.standard_normal(6)
    bias[5] = MIX @ bias[:5] - 3
    made, offsets = floats(w), b.constant(floats(bias))
    if reader == "conv":
        x = b.input(["N", 4, 3, 3], "x")
        y = b.op("Conv", x, b.constant(made[:, :, None, None], "made"), offsets, kernel_shape=[1, 1])
        return b.model(b.conv(y, 5, 6, kernel=1, name="reader"))
    if reader == "gemm":
        y = b.op("Gemm", b.input(["N", 4], "x"), b.constant(made, "made"), offsets, transB=1)
        return b.model(b.linear(y, 5, 6, name="reader"))
    y = b.op("MatMul", b.input(["N", 3, 4], "x"), b.constant(np.ascontiguousarray(made.T), "made"))
    return b.model(b.op("MatMul", b.add(y, offsets), b.weight(6, 5), name="reader"))


def features(rows: int = 300, channels: int = 6, seed: int = 0) -> Wide:
    """Correlated features [rows, channels] with means of their own."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, channels)) @ rng.standard_normal(
        (channels, channels)
    ) + rng.standard_normal(channels)


def bent(seed: int = 9) -> Model:
    """Sixteen rectified features of eight numbers, read by one product."""
    b = Builder(seed=seed)
    y = b.relu(b.linear(b.input(["N", 8], "x"), 16, 8))
    return b.model(
        b.op(
            "Gemm",
            y,
            b.weight(5, 16, name="read"),
            b.constant(floats(b.rng.standard_normal(5)), "read.bias"),
            transB=1,
            name="reader",
        )
    )


@pytest.mark.parametrize("reader", ["conv", "gemm", "matmul"])
def test_a_channel_that_others_determine_leaves_without_a_trace(reader: str) -> None:
    model = dependent(reader)
    context = Context(data=samples(model, 60))

    assert error(model, without(model, (5,), context, reconstruct=EXACT)) < 1e-4
    assert error(model, without(model, (5,), context)) > 0.01  # the mean is not enough
    assert error(model, without(model, (5,), context, absorb=False)) > 0.01


@pytest.mark.parametrize("reader", ["conv", "gemm", "matmul"])
def test_the_default_ridge_costs_a_percent_at_most(reader: str) -> None:
    model = dependent(reader)

    assert (
        error(model, without(model, (5,), Context(data=samples(model, 60)), reconstruct=LeastSquares()))
        < 0.01
    )


def test_the_estimate_is_that_of_lstsq_with_an_intercept() -> None:
    x, alive = features(), np.array([True, False, True, True, False, True])
    accumulator = EXACT.statistic(1)()
    for block in np.split(x, 3):
        accumulator.update(block)

    transfer, constant = EXACT.estimate(accumulator.result(), alive)

    design = np.concatenate([x[:, alive], np.ones((len(x), 1))], axis=1)
    want = np.linalg.lstsq(design, x[:, ~alive], rcond=None)[0]  # [kept + 1, dead]
    assert transfer is not None
    np.testing.assert_allclose(transfer, want[:-1].T, rtol=1e-5)
    np.testing.assert_allclose(constant, want[-1], rtol=1e-5)


def test_the_ridge_is_relative_to_the_variance_of_the_kept_channels() -> None:
    """Worked out with the ridge written out as further rows of the design."""
    x, alive, ridge = features(), np.array([True, True, False, True, True, False]), 0.3
    step = LeastSquares(ridge)
    accumulator = step.statistic(1)()
    accumulator.update(x)

    transfer, constant = step.estimate(accumulator.result(), alive)

    centred = x - x.mean(axis=0)
    strength = ridge * centred[:, alive].var(axis=0).mean() * len(x)
    rows = np.concatenate([centred[:, alive], np.sqrt(strength) * np.eye(4)])
    goals = np.concatenate([centred[:, ~alive], np.zeros((4, 2))])
    want = np.linalg.lstsq(rows, goals, rcond=None)[0].T
    assert transfer is not None
    np.testing.assert_allclose(transfer, want, rtol=1e-9)
    np.testing.assert_allclose(constant, x.mean(axis=0)[~alive] - want @ x.mean(axis=0)[alive])


def test_the_channel_axis_may_lie_anywhere() -> None:
    x = features(24)
    first = EXACT.statistic(1)()
    first.update(x.reshape(4, 6, 6).transpose(0, 2, 1))  # [batch, channels, positions]
    last = EXACT.statistic(-1)()
    last.update(x)
    alive = np.arange(6) != 2

    for one, two in zip(
        EXACT.estimate(first.result(), alive), EXACT.estimate(last.result(), alive), strict=True
    ):
        assert one is not None and two is not None
        np.testing.assert_allclose(one, two, rtol=1e-9)


def test_the_new_weights_are_the_least_squares_optimum_of_the_reader() -> None:
    """No weights and bias over the kept features come nearer to the old outputs on the data."""
    model, doomed = bent(), (1, 4, 7, 11)
    source = samples(model, 200)
    (hidden,) = values(model, source, model.nodes("Gemm")[1].inputs[0].name)
    (old,) = values(model, source)
    alive = [u for u in range(16) if u not in doomed]

    smaller = without(model, doomed, Context(data=source), reconstruct=EXACT)

    design = np.concatenate([hidden[:, alive], np.ones((len(hidden), 1))], axis=1)
    want = np.linalg.lstsq(design, old, rcond=None)[0]
    np.testing.assert_allclose(weight(smaller, "read"), want[:-1].T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(weight(smaller, "read.bias"), want[-1], rtol=1e-3, atol=1e-4)


def test_each_means_of_making_up_is_better_than_the_one_before() -> None:
    model = bent()
    source = samples(model, 400)

    def distance(**options: object) -> float:
        smaller = without(model, (0, 3, 5, 8, 12, 13), Context(data=source), **options)
        fresh = samples(model, 200, seed=77)
        return float(np.square(values(smaller, fresh)[0] - values(model, fresh)[0]).mean())

    nothing, mean, fitted = distance(absorb=False), distance(), distance(reconstruct=LeastSquares())
    assert fitted < 0.7 * mean < 0.7 * nothing


def test_a_wide_kernel_gets_the_same_prediction_at_every_position() -> None:
    """A dependence between channels holds at every position, so inside the border a 3x3 reader is exact too."""
    b = Builder(seed=3)
    w = b.rng.standard_normal((6, 4, 1, 1))
    w[5] = 0.5 * w[0] - w[1]
    x = b.input(["N", 4, 5, 5], "x")
    y = b.op("Conv", x, b.constant(floats(w)), kernel_shape=[1, 1])
    model = b.model(b.conv(y, 3, 6, pad=1))

    # No constant is part of this dependence, hence the border is exact as well.
    assert error(model, without(model, (5,), Context(data=samples(model, 60)), reconstruct=EXACT)) < 1e-4


def notes_of(model: Model, data: ArraySource, step: RemoveChannels) -> dict[str, str]:
    (report,) = cut(model, step, Context(data=data)).report.steps
    return {
        note.subject: note.text
        for note in report.notes
        if isinstance(note, Note) and "not compensated" in note.text
    }


def test_grouped_readers_are_left_alone_with_a_note() -> None:
    model = grouped()

    notes = notes_of(model, samples(model), RemoveChannels(budget=Ratio(0.5), reconstruct=LeastSquares()))

    assert notes == {"grouped": "not compensated: a grouped convolution"}


def test_shared_weights_are_left_alone_with_a_note() -> None:
    b = Builder(seed=1)
    y = b.relu(b.linear(b.input(["N", 4], "x"), 6, 4))
    shared = b.weight(6, 6, name="shared")
    y = b.op("Gemm", b.relu(b.op("Gemm", y, shared, name="first")), shared, name="second")
    model = b.model(b.linear(y, 2, 6, name="head"))

    result = cut(
        model, RemoveChannels(budget=Ratio(0.5), reconstruct=LeastSquares()), Context(data=samples(model))
    )

    (report,) = result.report.steps
    told = {note.subject: note.text for note in report.notes}
    assert told["first"] == told["second"] == "not compensated: its weight is shared with another node"
    assert details(result)["compensated"] == ["head"]
    # Still the old numbers: nothing was added to what both read.
    kept = details(result)["kept"]
    assert isinstance(kept, dict) and isinstance(kept["shared"], dict)
    want = model.weights["shared"]
    for axis, positions in kept["shared"].items():
        want = np.take(want, np.asarray(positions), axis=int(axis))
    np.testing.assert_array_equal(result.model.weights["shared"], want)


def test_computed_weights_are_left_alone_with_a_note() -> None:
    b = Builder(seed=1)
    y = b.relu(b.linear(b.input(["N", 4], "x"), 6, 4))
    doubled = b.op("Mul", b.weight(6, 3), b.constant(floats(2)))
    model = b.model(b.op("MatMul", y, doubled, name="reader"))

    notes = notes_of(model, samples(model), RemoveChannels(budget=Ratio(0.5), reconstruct=LeastSquares()))

    assert notes == {"reader": "not compensated: its weight is computed"}


def test_products_of_two_features_are_left_alone_with_a_note() -> None:
    b = Builder(seed=1)
    x = b.input(["N", 3, 4], "x")
    q, k = b.op("MatMul", x, b.weight(4, 6)), b.op("MatMul", x, b.weight(4, 6))
    model = b.model(b.op("MatMul", q, b.op("Transpose", k, perm=[0, 2, 1]), name="scores"))

    notes = notes_of(model, samples(model), RemoveChannels(budget=Ratio(0.5), reconstruct=LeastSquares()))

    assert notes == {"scores": "not compensated: its weight is computed"}


def test_weights_in_constant_nodes_are_compensated_like_others() -> None:
    def build(nodes: bool) -> Model:
        model = bent()
        if nodes:
            for name in ("read", "read.bias"):
                constant = model.graph.initializers[name]
                out = gs.Variable(f"{name}.node", constant.values.dtype, list(constant.values.shape))
                made = gs.Node(
                    "Constant", f"make.{name}", {"value": gs.Constant("", constant.values)}, [], [out]
                )
                redirect(model.graph, constant, out)
                model.graph.nodes.insert(0, made)
                del model.weights[name]
        return model

    results = []
    for nodes in (False, True):
        model = build(nodes)
        smaller = without(model, (1, 4), Context(data=samples(model, 50)), reconstruct=LeastSquares())
        assert ("read" in smaller.weights) is not nodes
        results.append(values(smaller, samples(model, 9, 4))[0])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_reconstruction_without_data_says_what_is_missing() -> None:
    with pytest.raises(
        InvalidConfig, match="reconstruction by LeastSquares needs calibration data; give it with --data"
    ):
        cut(tower(), RemoveChannels(reconstruct=LeastSquares()), Context())


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan")])
def test_a_ridge_that_is_not_positive_is_refused(ridge: float) -> None:
    with pytest.raises(InvalidConfig, match="ridge"):
        LeastSquares(ridge)


def test_channels_that_repeat_each_other_do_not_break_the_solution() -> None:
    """All channels equal: the system is singular but for the ridge."""
    x = np.repeat(features(50, 1), 5, axis=1)
    step = reconstructions.make("least_squares")
    accumulator = step.statistic(1)()
    accumulator.update(x)

    transfer, constant = step.estimate(accumulator.result(), np.array([True, True, True, False, True]))

    assert transfer is not None
    predicted = x[:, [0, 1, 2, 4]] @ transfer.T + constant
    np.testing.assert_allclose(predicted[:, 0], x[:, 3], atol=1e-2)
