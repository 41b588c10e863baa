"""What stands behind and before a binary layer goes into its numbers: scales, biases, thresholds, shifts."""

from typing import cast

import numpy as np
import pytest

from graphrewrite.ir import Builder
from graphrewrite.passes.binary import LowerBinaryConv
from graphrewrite.pipeline import Context, Pipeline, compare
from graphrewrite.runtime import run
from tests.passes.binary.checks import assert_equal, fed, lowered, ops, ours, picture
from tests.passes.binary.drawing import binary_conv, planes, sign_weight, signs


def test_a_sign_that_turns_downwards_negates_the_weights() -> None:
    b = Builder(seed=7)
    x = picture(b, 8)
    factor = b.constant(np.where(np.arange(8) % 2, -0.7, 0.7).reshape(8, 1, 1).astype(np.float32))
    sums = b.op("Add", b.op("Mul", binary_conv(b, signs(b, x), out=8, into=8), factor), planes(b, 8))
    model = b.model(binary_conv(b, signs(b, sums), out=4, into=8))

    after = lowered(model)

    assert ours(after) == ["BinaryConvToBits", "BinaryConvFromBits"]
    assert_equal(model, after)


def test_thresholds_are_where_the_sums_turn() -> None:
    """Nine signs, plus 0.5 and times 1, minus 1, 0: reached from -0.5 up, up to 0.5, never or always."""
    b = Builder(seed=8)
    x = picture(b, 1)
    factor = np.array([1, -1, 0, 0], np.float32).reshape(4, 1, 1)
    offset = np.array([0.5, 0.5, 1, -1], np.float32).reshape(4, 1, 1)
    sums = binary_conv(b, signs(b, x), out=4, into=1)
    placed = b.op("Add", b.op("Mul", sums, b.constant(factor)), b.constant(offset))
    model = b.model(binary_conv(b, signs(b, placed), out=4, into=4))

    first = lowered(model).nodes("BinaryConvToBits")[0]

    low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    assert first.inputs[3].values.tolist() == [0, 0, low, high]


@pytest.mark.parametrize("form", ["Sub", "Add"])
def test_shifts_before_signs_become_thresholds(form: str) -> None:
    b = Builder(seed=9)
    x = picture(b, 8)
    shift = planes(b, 8, spread=0.5)
    model = b.model(binary_conv(b, signs(b, b.op(form, x, shift)), out=4, into=8))

    after = lowered(model)

    assert ops(after) == ["BinaryConv"]
    expected = shift.values.reshape(8) * (1 if form == "Sub" else -1)
    np.testing.assert_array_equal(after.graph.nodes[0].inputs[1].values, expected)
    assert_equal(model, after)


def test_a_product_and_a_sum_behind_a_layer_are_its_scale_and_bias() -> None:
    b = Builder(seed=10)
    x = picture(b, 8)
    scale, bias = planes(b, 4), planes(b, 4)
    model = b.model(b.op("Add", b.op("Mul", binary_conv(b, signs(b, x), out=4, into=8), scale), bias))

    after = lowered(model)

    (node,) = after.graph.nodes
    np.testing.assert_array_equal(node.inputs[3].values, scale.values.reshape(4))
    np.testing.assert_array_equal(node.inputs[4].values, bias.values.reshape(4))
    assert_equal(model, after)


def test_a_batch_norm_is_folded_to_the_bit() -> None:
    b = Builder(seed=11)
    x = picture(b, 32)
    model = b.model(b.batchnorm(binary_conv(b, signs(b, x), out=64, into=32), 64))

    result = Pipeline([LowerBinaryConv()]).run(model, Context())

    (told,) = cast("list[dict[str, object]]", result.report.steps[0].details["layers"])
    assert told["folded"] == ["BatchNormalization"] and told["exact"] == 64
    assert_equal(model, result.model)


def test_the_shift_behind_a_residual_sum_goes_into_the_bias() -> None:
    b = Builder(seed=22)
    x = picture(b, 8)
    shift = planes(b, 8)
    total = b.add(b.batchnorm(binary_conv(b, signs(b, x), out=8, into=8), 8), x)
    model = b.model(b.op("PRelu", b.op("Sub", total, shift), planes(b, 8)))

    after = lowered(model)

    assert ops(after) == ["BinaryConv", "Add", "PRelu"]
    norm = [node.inputs for node in model.nodes("BatchNormalization")][0]
    gain, offset, mean, variance = (np.asarray(each.values, np.float64) for each in norm[1:])
    bias = offset - mean * gain / np.sqrt(variance + 1e-5) - shift.values.reshape(8)
    np.testing.assert_allclose(after.graph.nodes[0].inputs[4].values, bias, rtol=1e-5, atol=1e-6)


def test_one_of_two_layers_takes_a_shift_behind_their_sum() -> None:
    b = Builder(seed=23)
    x = picture(b, 8)
    both = signs(b, x)
    total = b.add(binary_conv(b, both, out=8, into=8), binary_conv(b, both, out=8, into=8))
    model = b.model(b.op("Add", total, planes(b, 8)))

    after = lowered(model)

    assert ops(after) == ["BinaryConv", "BinaryConv", "Add"]


def test_what_straight_through_estimators_leave_is_taken_away() -> None:
    """Signs and weights written as (s - v) + v, in float32 where that is s only up to rounding."""
    b = Builder(seed=24)
    x = picture(b, 32)
    smooth = b.op("Tanh", x)
    read = b.add(b.op("Sub", signs(b, x), smooth), smooth)
    right = sign_weight(b, 8, 32, 3, 3).values * np.float32(0.03)
    latent = b.rng.standard_normal(right.shape).astype(np.float32) * np.float32(0.1)
    weight = (right - latent) + latent
    assert len(np.unique(np.abs(weight))) > 1
    model = b.model(b.op("Conv", read, b.constant(weight), pads=[1] * 4))

    after = lowered(model)

    assert ops(after) == ["BinaryConv"]
    feeds = fed(model)
    errors = compare(run(model, feeds), run(after, feeds))
    assert max(errors.values()) < 1e-5
    np.testing.assert_allclose(after.graph.nodes[0].inputs[3].values, 0.03, rtol=1e-5)


@pytest.mark.parametrize(("spread", "expected"), [(5e-6, ["BinaryConv"]), (5e-5, None)])
def test_sizes_that_differ_by_more_than_rounding_are_two(spread: float, expected: list[str] | None) -> None:
    b = Builder(seed=25)
    x = picture(b, 8)
    weight = sign_weight(b, 4, 8, 3, 3).values.copy()
    weight[2, 3] *= np.float32(1 + spread)
    model = b.model(b.op("Conv", signs(b, x), b.constant(weight)))

    assert ops(lowered(model)) == (expected or ops(model))


def test_shifts_that_are_written_out_in_full() -> None:
    b = Builder(seed=26)
    x = picture(b, 8)
    shift = np.broadcast_to(planes(b, 8).values, (1, 8, 6, 6)).copy()
    other = shift.copy()
    other[0, 3, 2, 2] += 1
    for values, expected in ((shift, ["BinaryConv"]), (other, ["Add", "BinaryConv"])):
        model = b.model(binary_conv(b, signs(b, b.op("Add", x, b.constant(values))), out=4, into=8))
        assert ops(lowered(model)) == expected


def test_sizes_and_biases_move_behind_the_layer() -> None:
    """Weights of +-0.3 and a bias: the reference has them behind sums of signs, and so has what is lowered."""
    b = Builder(seed=16)
    x = picture(b, 8)
    weight = b.constant(
        sign_weight(b, 4, 8, 3, 3).values * np.array([0.3, 2.0, 0.1, 1.0], np.float32).reshape(4, 1, 1, 1)
    )
    model = b.model(
        b.op("Conv", signs(b, x), weight, b.constant(np.arange(4, dtype=np.float32)), pads=[1] * 4)
    )

    after = lowered(model)

    assert ops(after) == ["BinaryConv"]
    np.testing.assert_allclose(after.graph.nodes[0].inputs[3].values, [0.3, 2.0, 0.1, 1.0], rtol=1e-7)
    np.testing.assert_array_equal(after.graph.nodes[0].inputs[4].values, [0, 1, 2, 3])
