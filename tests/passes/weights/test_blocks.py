"""Rows rounded in blocks: by hand, against a search over every step, and what each kind of code can hold."""

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.passes.weights.blocks import rounded, rounded_to_float8

Singles = npt.NDArray[np.float32]


def rows(count: int = 6, width: int = 70, seed: int = 0) -> Singles:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def away(values: Singles, other: Singles) -> float:
    return float(np.square(values.astype(np.float64) - other).sum())


def test_whole_steps_are_kept_by_hand() -> None:
    given = np.array([[-8, 7, 1, 0, 14, -16, -2, 4]], np.float32)

    found = rounded(given, 4, 4)

    np.testing.assert_array_equal(found.codes, [[[-8, 7, 1, 0], [7, -8, -1, 2]]])
    np.testing.assert_allclose(found.steps, [[1, 2]], rtol=1e-6)
    assert found.zeros is None and found.block == 4
    np.testing.assert_allclose(found.expand(), given, rtol=1e-6)


def test_a_negative_step_turns_the_longer_side_of_the_codes() -> None:
    given = np.array([[8, -7, -1, 0]], np.float32)

    found = rounded(given, 4, 0)

    np.testing.assert_array_equal(found.codes, [[[-8, 7, 1, 0]]])
    np.testing.assert_allclose(found.steps, [[-1]], rtol=1e-6)
    assert (rounded(given, 4, 0, negative=False).steps > 0).all()


def test_a_zero_of_its_own_holds_numbers_of_one_sign() -> None:
    given = np.linspace(10, 25, 16, dtype=np.float32)[None]

    found = rounded(given, 4, 0, symmetric=False)

    assert found.zeros is not None and found.zeros.tolist() == [[-8]]  # nothing lies below zero
    np.testing.assert_allclose(found.steps, [[25 / 15]], rtol=0.02)
    assert away(given, found.expand()) < 0.5 * away(given, rounded(given, 4, 0).expand())


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("symmetric", [True, False])
def test_steps_come_near_those_of_a_search_over_all(bits: int, symmetric: bool) -> None:
    given = rows(2, 32)

    found = rounded(given, bits, 0, symmetric)

    half = 2 ** (bits - 1)
    for row, near in zip(given, found.expand(), strict=True):
        best = np.inf
        for step in np.linspace(-3, 3, 301)[:, None] / half:
            for zero in (0,) if symmetric else range(-half, half):
                codes = np.clip(np.rint(row / (step or 1)) + zero, -half, half - 1)
                best = min(best, away(row, ((codes - zero) * step).astype(np.float32)))
        # A zero of its own goes with both ends, of which few pairs are tried.
        assert away(row, near) < (1.25 if symmetric else 1.5) * best


def test_shorter_blocks_and_more_bits_are_nearer() -> None:
    given = rows(8, 256)

    by_block = [away(given, rounded(given, 4, block).expand()) for block in (0, 128, 32)]
    by_bits = [away(given, rounded(given, bits, 32).expand()) for bits in (2, 3, 4, 5, 6, 7, 8)]

    assert by_block == sorted(by_block, reverse=True)
    assert by_bits == sorted(by_bits, reverse=True)


def test_the_last_block_may_be_short() -> None:
    given = rows(3, 70)

    found = rounded(given, 8, 32)

    assert found.codes.shape == (3, 3, 32) and found.steps.shape == (3, 3)
    assert found.expand().shape == (3, 70)
    np.testing.assert_array_equal(found.expand()[:, 64:], rounded(given[:, 64:], 8, 0).expand())


def test_a_block_of_zeros_stays_so() -> None:
    for symmetric in (True, False):
        found = rounded(np.zeros((2, 8), np.float32), 4, 4, symmetric)
        assert not found.expand().any() and np.isfinite(found.steps).all() and found.steps.all()


@pytest.mark.parametrize(("dtype", "relative"), [("float8_e4m3fn", 2**-4), ("float8_e5m2", 2**-3)])
def test_float8_keeps_a_share_of_each_number(dtype: str, relative: float) -> None:
    given = rows(5, 64)
    given[0, 0] = 100.0

    found = rounded_to_float8(given, dtype, 32)

    large = np.abs(given) > 0.01 * np.abs(given).max(axis=1, keepdims=True)
    near = found.expand()
    assert (np.abs(near - given)[large] <= relative * np.abs(given)[large] * 1.001).all()
    assert near[0, 0] == pytest.approx(100.0, rel=1e-6)  # the largest gets the largest code


def test_rows_do_not_touch_each_other() -> None:
    given = rows(600, 2048)  # more than are looked at together

    found = rounded(given, 4, 32)

    alone = rounded(given[599:600], 4, 32)
    np.testing.assert_array_equal(found.expand()[599], alone.expand()[0])
