"""Input channels and singular components of one convolution as units of one pool, and what their removal costs.

A weight is [outputs, channels, taps]; its components are those of the matrix [outputs, channels x taps]. Lost is
sum((gradient * (reduced - original))^2), the first-order estimate of Li et al. 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphrewrite.passes.factor.factors import Floats

Bits = npt.NDArray[np.bool_]


class Sizes(NamedTuple):
    """A convolution's sizes; `positions` are those of its output for one sample."""

    outputs: int
    channels: int
    taps: int
    positions: int

    @property
    def rank(self) -> int:
        """The most components there are."""
        return min(self.outputs, self.channels * self.taps)

    def macs(self, channels: int, rank: int | None) -> float:
        """Return the multiply-accumulates with so many channels left, as one convolution or as two."""
        inputs = channels * self.taps
        if rank is None:
            return float(self.outputs * inputs * self.positions)
        return float(rank * (inputs + self.outputs) * self.positions)


class Removal(NamedTuple):
    """A unit: a channel by its number in the original, or a component by its rank, counted from the largest."""

    kind: str  # "channel" or "component"
    number: int


@dataclass(frozen=True, eq=False)
class Reduced:
    """A weight on its way: original and gradient, its present numbers, the channels and the components left.

    `cut` is how many components were removed.
    """

    original: Floats
    gradient: Floats
    present: Floats
    alive: Bits
    cut: int
    positions: int

    @classmethod
    def start(cls, original: Floats, gradient: Floats, positions: int) -> "Reduced":
        """Return the weight as it is."""
        return cls(original, gradient, original.copy(), np.ones(original.shape[1], bool), 0, positions)

    @property
    def sizes(self) -> Sizes:
        """The sizes of the original."""
        outputs, channels, taps = self.original.shape
        return Sizes(outputs, channels, taps, self.positions)

    @property
    def rank(self) -> int:
        """How many components are left: those not removed, and no more than the channels left can have."""
        return min(self.sizes.rank - self.cut, int(self.alive.sum()) * self.sizes.taps)

    @property
    def macs(self) -> float:
        """What the layer takes now; two convolutions take more than one until enough is removed."""
        return self.sizes.macs(int(self.alive.sum()), self.rank if self.cut else None)

    @property
    def rate(self) -> float:
        """The share of the multiply-accumulates that is gone; negative where two convolutions take more."""
        return 1 - self.macs / self.sizes.macs(self.sizes.channels, None)

    @property
    def lost(self) -> float:
        """The information loss of the present numbers."""
        return float(np.sum((self.gradient * (self.present - self.original)) ** 2))

    @cached_property
    def parts(self) -> tuple[Floats, Floats, Floats]:
        """Outputs' vectors [outputs, rank], values [rank] and inputs' vectors [rank, channels x taps]."""
        u, s, v = np.linalg.svd(self.present.reshape(len(self.present), -1), full_matrices=False)
        return u[:, : self.rank], s[: self.rank], v[: self.rank]

    def without(self, *units: Removal) -> "Reduced":
        """Return the weight without some units; components are those of the present numbers."""
        alive, gone = self.alive.copy(), [unit.number for unit in units if unit.kind == "component"]
        alive[[unit.number for unit in units if unit.kind == "channel"]] = False
        present = self.present
        if gone:
            u, s, v = self.parts
            present = present - ((u[:, gone] * s[gone]) @ v[gone]).reshape(present.shape)
        present = np.where(alive[None, :, None], present, 0)
        return Reduced(self.original, self.gradient, present, alive, self.cut + len(gone), self.positions)

    def units(self, kinds: Sequence[str]) -> list[Removal]:
        """Return what can be removed; the last channel and the last component stay."""
        left = np.flatnonzero(self.alive)
        channels = [Removal("channel", int(c)) for c in left] if len(left) > 1 else []
        components = [Removal("component", k) for k in range(self.rank)] if self.rank > 1 else []
        return [unit for unit in (*channels, *components) if unit.kind in kinds]


class Scored(NamedTuple):
    """What the removal of a unit loses now, and, on average, together with one further unit of those then left."""

    unit: Removal
    backward: float
    forward: float


def scored(state: Reduced, kinds: Sequence[str], ahead: bool = True) -> list[Scored]:
    """Return every unit that can be removed with its losses; without `ahead` the second is 0.

    The look-ahead is the mean over all channels and components left after the removal, exactly: channels add up to the
    weight, and so do components, so the mean needs no second removal.
    """
    square = state.gradient**2
    away = state.present - state.original
    g, d, w = (each.reshape(len(each), -1) for each in (square, away, state.present))
    u, s, v = state.parts
    own = s**2 * np.sum(u**2 * (g @ (v**2).T), axis=0)  # of each component: sum(g * part^2)
    of_away, of_present = (s * np.sum(u * ((g * m) @ v.T), axis=0) for m in (d, w))
    base, mixed, whole = (float(np.sum(g * m)) for m in (d * d, d * w, w * w))
    by_channel = [np.sum(square * m, axis=(0, 2)) for m in (away**2, away * state.present, state.present**2)]
    alone = np.sum(square * state.original**2, axis=(0, 2))
    channels, taps = int(state.alive.sum()), state.sizes.taps
    found = []
    for unit in state.units(kinds):
        c = k = unit.number
        if unit.kind == "component":
            lost = base - 2 * of_away[k] + own[k]
            # With d' = d - part and w' = w - part: sum g d' w' and sum g w'^2.
            cross = mixed - of_away[k] - of_present[k] + own[k]
            channel_squares = whole - 2 * of_present[k] + own[k]
            left = channels + state.rank - 1
            part_squares = float(own.sum() - own[k])
        else:
            lost = base - by_channel[0][c] + alone[c]
            cross = mixed - by_channel[1][c]
            channel_squares = whole - by_channel[2][c]
            rank = min(state.rank, (channels - 1) * taps)
            left = channels - 1 + rank
            part_squares = _part_squares(state, g, c) if ahead else 0.0
        forward = lost + (-4 * cross + channel_squares + part_squares) / max(left, 1) if ahead else 0.0
        found.append(Scored(unit, float(max(lost, 0.0)), float(max(forward, 0.0))))
    return found


def _part_squares(state: Reduced, g: Floats, channel: int) -> float:
    """Return sum over components of sum(g * part^2) once a channel is gone; `g` is [outputs, channels x taps].

    Components come from the smaller of both Gram matrices, which is many times as fast as decomposing the weight.
    """
    left = state.present.copy()
    left[:, channel] = 0
    matrix = left.reshape(len(left), -1)
    live = np.repeat(state.alive, state.sizes.taps)
    live[channel * state.sizes.taps : (channel + 1) * state.sizes.taps] = False
    matrix, g = matrix[:, live], g[:, live]
    if matrix.shape[0] <= matrix.shape[1]:
        u = np.linalg.eigh(matrix @ matrix.T)[1]
        return float(np.sum(u**2 * (g @ (matrix.T @ u) ** 2)))
    v = np.linalg.eigh(matrix.T @ matrix)[1]
    return float(np.sum((matrix @ v) ** 2 * (g @ v**2)))


def reduced(state: Reduced, macs: float, kinds: Sequence[str], gamma: float, step: float) -> Reduced:
    """Remove units until at most `macs` are left, or nothing can go.

    The cheapest go first: those of the least loss + gamma * look-ahead. `step` is the share of all units that goes at
    once. Where the channels that went are enough, components stay.
    """
    sizes = state.sizes
    at_once = max(1, int(step * (sizes.channels + sizes.rank)))
    while state.macs > macs:
        found = scored(state, kinds, ahead=gamma > 0)
        if not found:
            break
        found.sort(key=lambda each: each.backward + gamma * each.forward)
        state = state.without(*_spared(state, [each.unit for each in found[:at_once]]))
    pruned = sizes.macs(int(state.alive.sum()), None)
    if state.cut and pruned <= macs:
        present = np.where(state.alive[None, :, None], state.original, 0)
        return Reduced(state.original, state.gradient, present, state.alive, 0, state.positions)
    return state


def _spared(state: Reduced, units: Sequence[Removal]) -> list[Removal]:
    """Return the units that can go together: one channel and one component stay."""
    most = {"channel": int(state.alive.sum()) - 1, "component": state.rank - 1}
    found: list[Removal] = []
    for unit in units:
        if sum(each.kind == unit.kind for each in found) < most[unit.kind]:
            found.append(unit)
    return found


def final(state: Reduced) -> Floats:
    """Return the numbers the layer ends with: the original's channels that are left, at the rank that is left."""
    kept = np.where(state.alive[None, :, None], state.original, 0)
    if not state.cut:
        return kept
    u, s, v = np.linalg.svd(kept.reshape(len(kept), -1), full_matrices=False)
    low = (u[:, : state.rank] * s[: state.rank]) @ v[: state.rank]
    return np.where(state.alive[None, :, None], low.reshape(kept.shape), 0)
