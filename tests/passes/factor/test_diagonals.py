"""Fitting diagonals and a permutation to a matrix."""

import numpy as np
import pytest

from graphrewrite.passes.factor.diagonals import fit, matched
from graphrewrite.passes.factor.factorizations import factorizations
from graphrewrite.passes.factor.hadamard_product import HadamardProduct, transform
from graphrewrite.passes.factor.wavelets import analyse, coefficients, filters, synthesise


def relative(weight: np.ndarray, found: np.ndarray) -> float:
    return float(np.linalg.norm(weight - found) / np.linalg.norm(weight))


def test_a_planted_permutation_is_found() -> None:
    rng = np.random.default_rng(0)
    size, ones = 32, np.ones(32)
    planted = HadamardProduct(ones, rng.permutation(size), 1 + rng.random(size), ones)

    np.testing.assert_array_equal(
        matched(planted.expand(), transform(size), transform(size)), planted.permutation
    )


@pytest.mark.parametrize("name", ["hadamard", "wavelet"])
def test_a_weight_that_is_such_a_product_is_recovered(name: str) -> None:
    rng = np.random.default_rng(1)
    size = 32
    split, join = (transform(size), transform(size))
    if name == "wavelet":
        pair = filters("haar", 2)
        split = analyse(np.eye(size), pair[0], 3)
        join = synthesise(np.eye(coefficients(size, 2, 3)), pair[1], 3, size)
    gain = 1 + 0.1 * rng.random((2, size))
    weight = gain[0][:, None] * ((split[:, rng.permutation(size)] * (1 + rng.random(size))) @ join) * gain[1]
    fields = {"taps": 2, "levels": 3} if name == "wavelet" else {}

    found = factorizations.make(name, rounds=60, **fields).factor(weight, rng)

    assert relative(weight, found.expand()) < 1e-4
    assert found.parameters < weight.size


def test_more_rounds_never_fit_worse() -> None:
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((24, 16))
    size = transform(32)

    errors = []
    for rounds in range(5):
        found = fit(weight, size[:24], size[:, :16], rounds)
        errors.append(relative(weight, HadamardProduct(*found).expand()))

    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] < 1


def test_matching_beats_chance() -> None:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((64, 64))

    by_match, by_chance = (
        factorizations.make("wavelet", permutation=how).factor(weight, np.random.default_rng(0)).expand()
        for how in ("matched", "random")
    )

    assert relative(weight, by_match) < relative(weight, by_chance) < 1
