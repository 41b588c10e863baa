"""How much each convolution gives: fitted curves of what removal costs, and rates of equal slope that add up."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from graphrewrite.passes.factor.collaborative_units import Reduced, Removal, scored
from graphrewrite.passes.factor.factors import Floats

Slope: TypeAlias = Literal["equal", "macs"]
_FLAT = 1e-3  # a curve that does not rise has no slope to compare


class Curve(NamedTuple):
    """Information loss at a rate, height * exp(growth * rate), of a layer with so many multiply-accumulates."""

    height: float
    growth: float
    macs: float

    def rate(self, slope: float, most: float) -> float:
        """Return where the curve has this slope, within 0 and `most`."""
        if self.height <= 0:
            return most  # nothing that goes costs anything
        return float(np.clip(np.log(slope / (self.height * self.growth)) / self.growth, 0, most))


def sensitivity(state: Reduced, kinds: Sequence[str]) -> Curve:
    """Fit the curve of a layer: units go one by one, those that lose least alone first, until the last that can.

    A component's turn takes whichever component of what is then left loses least. Losses are divided by the largest;
    large ones weigh more in the fit, by their roots.
    """
    order = sorted(scored(state, kinds, ahead=False), key=lambda each: each.backward)
    rates, lost = [], []
    now = state
    for each in order:
        unit = each.unit if each.unit.kind == "channel" else _least_component(now)
        if unit is None or unit not in now.units((unit.kind,)):
            continue
        now = now.without(unit)
        if now.rate > 0:
            rates.append(now.rate)
            lost.append(now.lost)
    return fitted(np.array(rates), np.array(lost), state.macs)


def fitted(rates: Floats, lost: Floats, macs: float) -> Curve:
    """Fit ln(lost / largest) = ln(height) + growth * rate by least squares, each point weighted by sqrt(lost)."""
    whole = float(lost.max(initial=0.0))
    there = lost > 1e-12 * whole
    if whole == 0 or np.unique(rates[there]).size < 2:
        return Curve(0.0, _FLAT, macs)
    scaled = lost[there] / whole
    growth, height = np.polyfit(rates[there], np.log(scaled), 1, w=scaled**0.25)
    return Curve(float(np.exp(height)), max(float(growth), _FLAT), macs)


def allocate(curves: Sequence[Curve], macs: float, most: float, slope: Slope = "equal") -> list[float]:
    """Return a rate for each curve such that together `macs` go, or as much as `most` of each allows.

    All curves have the same slope there ("equal", as published), or the same slope for a multiply-accumulate ("macs",
    which makes the sum of the losses smallest). What goes grows with the slope, so halving finds it.
    """
    whole = sum(curve.macs for curve in curves)

    def at(level: float) -> list[float]:
        each = (np.exp(level) * (curve.macs / whole if slope == "macs" else 1.0) for curve in curves)
        return [curve.rate(float(value), most) for curve, value in zip(curves, each, strict=True)]

    def gone(level: float) -> float:
        return sum(rate * curve.macs for rate, curve in zip(at(level), curves, strict=True))

    low, high = -700.0, 700.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if gone(middle) < macs else (low, middle)
    return at(high)


def _least_component(state: Reduced) -> Removal | None:
    found = [each for each in scored(state, ("component",), ahead=False)]
    return min(found, key=lambda each: each.backward).unit if found else None
