"""The wavelet transform in numpy: what it does by hand, that it undoes itself, and that it is the operator's."""

import numpy as np
import pytest

from graphrewrite import custom_ops
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.factor.hadamard_product import HadamardProduct, transform
from graphrewrite.passes.factor.wavelet_product import WaveletProduct
from graphrewrite.passes.factor.wavelets import (
    alias_loss,
    analyse,
    coefficients,
    filters,
    reconstruction_loss,
    synthesise,
)

START_AND_TAPS = [("haar", 2), ("haar", 4), ("haar", 6), ("haar", 8), ("db2", 4), ("db2", 6)]


def test_haar_takes_sums_and_differences() -> None:
    analysis, _ = filters("haar", 2)
    root = np.sqrt(0.5)

    # Two levels of 1 2 3 4: the differences of pairs, the difference of the pairs' sums, and the sum of everything.
    found = analyse(np.array([1.0, 2.0, 3.0, 4.0]), analysis, 2)

    np.testing.assert_allclose(np.abs(found), [root, root, 2.0, 5.0])
    assert found[3] == pytest.approx(5.0)
    assert found[0] == found[1]


@pytest.mark.parametrize(("start", "taps"), START_AND_TAPS)
def test_filters_of_a_wavelet_meet_both_conditions(start: str, taps: int) -> None:
    analysis, synthesis = filters(start, taps)

    assert reconstruction_loss(analysis, synthesis) == pytest.approx(0, abs=1e-24)
    assert alias_loss(analysis, synthesis) == pytest.approx(0, abs=1e-24)
    assert reconstruction_loss(analysis * 1.1, synthesis) > 0.01
    assert alias_loss(analysis, synthesis[::-1]) > 0.1


def test_padded_haar_filters_are_the_published_ones() -> None:
    analysis, synthesis = filters("haar", 6)
    r = np.sqrt(0.5)

    np.testing.assert_allclose(analysis, [[0, 0, r, r, 0, 0], [0, 0, -r, r, 0, 0]])
    np.testing.assert_allclose(synthesis, [[0, 0, r, r, 0, 0], [0, 0, r, -r, 0, 0]])


@pytest.mark.parametrize(("start", "taps"), START_AND_TAPS)
@pytest.mark.parametrize("size", [1, 37, 63, 64, 100])
@pytest.mark.parametrize("levels", [1, 4])
def test_the_synthesis_undoes_the_analysis(start: str, taps: int, size: int, levels: int) -> None:
    analysis, synthesis = filters(start, taps)
    x = np.random.default_rng(0).standard_normal((3, size))

    found = analyse(x, analysis, levels)

    assert found.shape == (3, coefficients(size, taps, levels))
    np.testing.assert_allclose(synthesise(found, synthesis, levels, size), x, atol=1e-12)


@pytest.mark.parametrize(("start", "taps"), [("haar", 5), ("haar", 1), ("db2", 2), ("db9", 18)])
def test_filters_that_cannot_be_are_refused(start: str, taps: int) -> None:
    with pytest.raises(InvalidConfig):
        filters(start, taps)


# Larger ones would take seconds: a product of matrices here has as many numbers as the layer saves.
CASES = [
    case
    for case in custom_ops.find("WaveletLinear").cases()
    if 0 < case.inputs["x"].size < 20_000 and case.inputs["middle"].size < 2000
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_product_expands_to_what_the_operator_does(case: custom_ops.Case) -> None:
    values = {
        name: np.asarray(value, np.float64) for name, value in case.inputs.items() if name != "permutation"
    }
    product = WaveletProduct(
        int(case.attributes["size"]),  # type: ignore[arg-type]
        int(case.attributes["levels"]),  # type: ignore[arg-type]
        values["before"],
        values["analysis"],
        np.asarray(case.inputs["permutation"], np.int64),
        values["middle"],
        values["synthesis"],
        values["after"],
    )
    spec = custom_ops.find("WaveletLinear")
    wanted = spec.reference(*(case.inputs[port.name] for port in spec.inputs), **spec.filled(case.attributes))
    assert isinstance(wanted, np.ndarray)

    found = values["x"] @ product.expand() + values["bias"]

    assert np.abs(found - wanted.astype(np.float64)).max() <= 1e-6 * np.abs(wanted.astype(np.float64)).max()


def test_a_layer_of_512_has_as_many_numbers_as_published() -> None:
    analysis, synthesis = filters("haar", 6)
    count = coefficients(512, 6, 4)
    ones = np.ones(512)
    product = WaveletProduct(512, 4, ones, analysis, np.arange(count), np.ones(count), synthesis, ones)

    assert (count, product.parameters) == (529, 2 * 512 + 529 + 4 * 6)
    np.testing.assert_allclose(product.expand(), np.eye(512), atol=1e-12)


def test_the_hadamard_transform_undoes_itself() -> None:
    np.testing.assert_allclose(transform(8) @ transform(8), np.eye(8), atol=1e-12)
    ones = np.ones(8)
    product = HadamardProduct(ones, np.arange(8), ones, ones)
    np.testing.assert_allclose(product.expand(), np.eye(8), atol=1e-12)
    assert product.parameters == 24
