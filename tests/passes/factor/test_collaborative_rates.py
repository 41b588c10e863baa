"""Rates of layers: fits that are found again, sums that are met, slopes that are equal."""

import numpy as np
import pytest

from graphrewrite.passes.factor.collaborative_rates import Curve, allocate, fitted

CURVES = [Curve(0.02, 3.0, 100.0), Curve(0.01, 5.0, 300.0), Curve(0.05, 2.0, 200.0)]


def total(rates: list[float], curves: list[Curve]) -> float:
    return sum(curve.height * np.exp(curve.growth * rate) for rate, curve in zip(rates, curves, strict=True))


@pytest.mark.parametrize("slope", ["equal", "macs"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_what_goes_adds_up(slope: str, share: float) -> None:
    rates = allocate(CURVES, share * 600, 0.95, slope)  # type: ignore[arg-type]
    assert sum(rate * curve.macs for rate, curve in zip(rates, CURVES, strict=True)) == pytest.approx(
        share * 600
    )
    assert all(0 <= rate <= 0.95 for rate in rates)


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_slopes_by_macs_are_the_best_of_a_grid(share: float) -> None:
    """All rates on a grid that take at least as much: none has a smaller sum of losses, and some come close."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 0.95, 96)] * 3), axis=-1).reshape(-1, 3)
    height, growth, macs = np.array(CURVES).T
    best = (height * np.exp(growth * grid)).sum(axis=1)[grid @ macs >= share * 600].min()
    ours = total(allocate(CURVES, share * 600, 0.95, "macs"), CURVES)
    assert ours <= best and ours == pytest.approx(best, rel=0.01)
    assert total(allocate(CURVES, share * 600, 0.95, "equal"), CURVES) > 1.02 * ours, (
        "the published rule is another"
    )


def test_equal_slopes() -> None:
    rates = allocate(CURVES, 240, 0.95)
    inside = [(rate, curve) for rate, curve in zip(rates, CURVES, strict=True) if 0 < rate < 0.95]
    slopes = [curve.height * curve.growth * np.exp(curve.growth * rate) for rate, curve in inside]
    assert len(slopes) >= 2
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-6)


def test_a_curve_is_found_again() -> None:
    rates = np.linspace(0.1, 0.9, 9)
    found = fitted(rates, 7.0 * np.exp(4.0 * rates), 10.0)
    assert found.growth == pytest.approx(4.0)
    assert found.height == pytest.approx(np.exp(-4.0 * 0.9))


def test_what_costs_nothing_gives_all_it_may() -> None:
    free = fitted(np.array([0.2, 0.4]), np.zeros(2), 100.0)
    assert allocate([free, *CURVES], 50, 0.9)[0] == 0.9
