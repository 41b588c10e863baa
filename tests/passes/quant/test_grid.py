"""Scales and codes, worked out by hand."""

import numpy as np
import pytest

from graphrewrite.passes.quant.grid import (
    GRIDS,
    Span,
    least_steps,
    stored_bias,
    stored_operand,
    stored_weight,
)


@pytest.mark.parametrize(
    ("grid", "span", "step", "zero"),
    [
        ("uint8", (0.0, 2.55), 0.01, 0),
        ("uint8", (0.5, 2.55), 0.01, 0),  # zero is always on the grid
        ("uint8", (-2.55, -1.0), 0.01, 255),
        ("uint8", (-1.28, 1.27), 0.01, 128),
        ("int8", (0.0, 2.55), 0.01, -128),
        ("int8", (-1.28, 1.27), 0.01, 0),
        ("int8_symmetric", (-0.1, 1.27), 0.01, 0),
        ("uint8_symmetric", (-1.27, 0.2), 0.01, 128),
        ("uint8", (0.0, 0.0), 1.0, 0),
    ],
)
def test_the_finest_scale_that_holds_a_span(
    grid: str, span: tuple[float, float], step: float, zero: int
) -> None:
    found = GRIDS[grid].scale(Span(*span))

    assert found.step == pytest.approx(step, rel=1e-6)
    assert found.zero == zero


@pytest.mark.parametrize("high", [6.0, 1.0, 0.1, 1 / 3, 7e-5])
def test_the_highest_code_never_stands_for_more_than_the_end_of_the_span(high: float) -> None:
    found = GRIDS["uint8"].scale(Span(0.0, high))

    assert np.float32(255) * np.float32(found.step) <= np.float32(high)


def test_values_go_to_the_nearest_code_and_no_further_than_the_ends() -> None:
    grid = GRIDS["uint8"]
    scale = grid.scale(Span(-1.0, 1.55))  # steps of 0.01, zero is code 100

    found = grid.round(np.array([0.004, 0.016, -5.0, 9.0]), scale)

    np.testing.assert_allclose(found, [0.0, 0.02, -1.0, 1.55], atol=1e-6)


def test_a_weight_gets_a_step_for_each_output_and_loses_half_a_step_at_most() -> None:
    weight = np.array([[1.27, -0.633], [0.0127, 0.01]], np.float32)

    whole, each = stored_weight(weight, None, 8), stored_weight(weight, 0, 8)

    np.testing.assert_array_equal(whole.codes, [[127, -63], [1, 1]])
    np.testing.assert_array_equal(each.codes, [[127, -63], [127, 100]])
    np.testing.assert_allclose(each.steps, [0.01, 0.0001], rtol=1e-6)
    assert np.abs(each.expand() - weight).max() <= 0.00501


def test_fewer_bits_use_fewer_codes() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 100)).astype(np.float32)

    assert np.abs(stored_weight(weight, 0, 7).codes).max() == 63
    assert set(np.unique(stored_weight(weight, 0, 2).codes)) == {-1, 0, 1}


def test_an_even_number_of_levels_has_none_at_zero() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 1000)).astype(np.float32)
    weight[3] = 0

    four, three = stored_weight(weight, 0, 2, apart=2), stored_weight(weight, 0, 2)

    assert set(np.unique(four.codes)) == {-3, -1, 1, 3}
    assert np.abs(four.expand()[3]).max() < 1e-5  # a channel of zeros stays one, nearly
    # For a normal distribution the best 4 levels have a tenth of its variance as error, the best 3 a fifth (Max 1960).
    lost = [float(np.square(each.expand() - weight)[:3].mean()) for each in (four, three)]
    assert lost[0] == pytest.approx(0.119, abs=0.01) and lost[1] == pytest.approx(0.190, abs=0.015)


def test_an_output_without_weights_counts_its_bias_in_the_others_steps() -> None:
    weight = np.array([[0.0, 0.0], [1.27, 0.0]], np.float32)

    steps = stored_weight(weight, 0, 8).steps
    bias = stored_bias(np.array([0.5, -0.25], np.float32), 0.1, steps)

    np.testing.assert_array_equal(bias.codes, [500, -250])


def test_a_bias_too_large_for_its_weights_widens_their_step() -> None:
    weight, bias = np.full((1, 3), 1e-9, np.float32), np.array([100.0], np.float32)

    stored = stored_weight(weight, 0, 8, least_steps(bias, 0.01))

    found = stored_bias(bias, 0.01, stored.steps)
    assert found.codes.dtype == np.int32
    np.testing.assert_allclose(found.expand(), bias, rtol=1e-6)
    assert abs(int(found.codes[0])) <= 2**30 + 64


def test_a_constant_beside_activations_is_on_their_grid() -> None:
    stored = stored_operand(np.array([-1.0, 0.0, 1.55], np.float32), GRIDS["uint8"])

    np.testing.assert_array_equal(stored.codes, [0, 100, 255])
    np.testing.assert_allclose(stored.expand(), [-1, 0, 1.55], atol=1e-6)
