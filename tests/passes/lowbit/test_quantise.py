"""Levels and scales by hand, and against a search over every scale."""

import numpy as np
import pytest

from graphrewrite.passes.lowbit.quantise import quantised


def test_one_bit_is_the_sign_times_the_mean_size() -> None:
    found = quantised(np.array([[1.0, -3.0, 2.0, -2.0]]), bits=1, group=0)

    assert found.codes.tolist() == [[1, 0, 1, 0]]
    assert found.expand().tolist() == [[2, -2, 2, -2]]


def test_two_bits_hold_four_even_levels_exactly() -> None:
    weight = np.array([[-3.0, -1, 1, 3, 3, -1], [0.5, 1.5, -0.5, -1.5, 0.5, 0.5]])

    found = quantised(weight, bits=2, group=0)

    assert found.offset == 3
    np.testing.assert_allclose(found.expand(), weight, rtol=1e-6)


def test_two_bits_hold_three_levels_exactly() -> None:
    weight = np.array([[0.0, 2, -2, 0, 0], [7, 7, 0, 0, -7]])

    found = quantised(weight, bits=2, group=0)

    assert found.offset == 2
    np.testing.assert_allclose(found.expand(), weight, rtol=1e-6)


def test_four_bits_hold_sixteen_levels_exactly() -> None:
    weight = np.arange(-15.0, 16, 2)[None] * 0.01

    np.testing.assert_allclose(quantised(weight, bits=4, group=0).expand(), weight, rtol=1e-5)


def test_groups_of_one_output_have_scales_of_their_own() -> None:
    weight = np.concatenate([np.tile([1.0, -1], 8), np.tile([100.0, -100], 8), [-3e-3]])[None]

    found = quantised(weight, bits=1, group=16)

    assert found.scales.shape == (1, 3)
    np.testing.assert_allclose(
        found.expand(), weight, rtol=3e-3
    )  # the last scale is a half near the smallest


def test_weights_of_zero_stay_zero() -> None:
    assert not quantised(np.zeros((3, 20)), bits=2, group=16).expand().any()
    assert not quantised(np.zeros((3, 20)), bits=1, group=0).expand().any()


@pytest.mark.parametrize(("bits", "offset"), [(2, 3), (4, 15)])
def test_scales_are_about_as_good_as_any(bits: int, offset: int) -> None:
    rng = np.random.default_rng(bits)
    weight = rng.standard_normal((8, 64))

    found = quantised(weight, bits, group=0)
    error = ((found.expand() - weight) ** 2).sum(axis=1)

    codes = np.arange(1 << bits)
    levels = 2 * codes - offset
    for row, mine in zip(weight, error, strict=True):
        scales = np.linspace(0.01, 1, 2000)[:, None, None] * np.abs(row).max()
        best = ((row[None, :, None] - scales * levels) ** 2).min(axis=2).sum(axis=1).min()
        assert mine <= best * 1.03


def test_an_odd_scale_would_be_seen() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 64))
    found = quantised(weight, 2, group=0)
    worse = found._replace(gain=found.gain * np.float32(1.5))

    assert ((worse.expand() - weight) ** 2).sum() > 1.3 * ((found.expand() - weight) ** 2).sum()
