"""Rounding a weight to few levels: which levels, which scales, and what they stand for.

One bit keeps signs: levels -1 and 1, the scale the mean size of its weights, which no other scale beats in squared
error (Rastegari et al. 2016). More bits take the levels -(2^b - 1), ..., -1, 1, ..., 2^b - 1 in steps of 2, symmetric
and without a zero. Two bits may take -2, 0, 2 instead, whichever is nearer to the weight: three levels suit weights of
which many are zero. Scales are found by starting from several parts of the largest weight and improving each by least
squares in turns with the codes (Lloyd 1982).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

# Parts of the largest weight that the highest level may stand for at first. Bell-shaped weights end up near 0.6 with
# two bits and near 0.85 with four.
_STARTS = {
    1: (1.0,),
    2: (0.4, 0.55, 0.7, 1.0),
    4: (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0),
}
_TURNS = 3
_AT_ONCE = 1 << 20  # weights that are looked at together


class Quantised(NamedTuple):
    """A weight [outputs, inputs] as codes [outputs, inputs].

    A code c is the level 2 c - `offset`, times the scale [outputs, groups] of its group of `group` inputs, times the
    gain [outputs]. The largest scale of an output is 1, so that halves hold all of them well.
    """

    codes: Codes
    scales: npt.NDArray[np.float16]
    gain: Singles
    offset: int
    group: int
    bits: int

    def expand(self) -> Floats:
        """Return the weight it stands for, [outputs, inputs]."""
        levels = 2.0 * self.codes - self.offset
        per_input = np.repeat(self.scales.astype(np.float64), self.group, axis=1)[:, : levels.shape[1]]
        return levels * per_input * self.gain[:, None]


def quantised(weight: Floats, bits: int, group: int) -> Quantised:
    """Round `weight` [outputs, inputs]; a `group` of 0, or as long as a row, makes one scale per output."""
    whole = -(-weight.shape[1] // 16) * 16
    group = group if 0 < group < weight.shape[1] else whole
    offsets = {1: (1,), 2: (3, 2), 4: (15,)}[bits]
    found = [_with_levels(weight, bits, group, offset) for offset in offsets]
    return min(found, key=lambda each: float(((each.expand() - weight) ** 2).sum()))


def _with_levels(weight: Floats, bits: int, group: int, offset: int) -> Quantised:
    outputs, inputs = weight.shape
    groups = -(-inputs // group)
    filled = np.zeros((outputs, groups * group), np.float32)
    filled[:, :inputs] = weight
    there = np.zeros(groups * group, np.float32)
    there[:inputs] = 1
    rows = max(1, _AT_ONCE // filled.shape[1])
    scales = np.concatenate(
        [
            _scales(
                filled[start : start + rows].reshape(-1, groups, group),
                there.reshape(groups, group),
                bits,
                offset,
            )
            for start in range(0, outputs, rows)
        ]
    )
    gain = scales.max(axis=1).astype(np.float32)
    halves = (scales / np.where(gain > 0, gain, 1)[:, None]).astype(np.float16)
    exact = np.repeat(halves.astype(np.float32) * gain[:, None], group, axis=1)[:, :inputs]
    codes = _codes(filled[:, :inputs], exact, bits, offset)
    return Quantised(codes, halves, gain, offset, group, bits)


def _scales(weight: Singles, there: Singles, bits: int, offset: int) -> Singles:
    """Return the scale of each group [outputs, groups]; weight is [outputs, groups, group], `there` 0 past the end."""
    top = np.abs(weight).max(axis=2)
    best: Singles = np.zeros_like(top)
    least = np.full_like(top, np.inf)
    for start in _STARTS[bits]:
        scale = top * np.float32(start / _highest(bits, offset))
        for _ in range(_TURNS):
            levels = (
                2.0 * _codes(weight, scale[..., None], bits, offset).astype(np.float32) - offset
            ) * there
            squares = (levels * levels).sum(axis=2)
            scale = (weight * levels).sum(axis=2) / np.where(squares > 0, squares, 1)
        error = ((weight - levels * scale[..., None]) ** 2).sum(axis=2)
        better = error < least
        best[better], least[better] = scale[better], error[better]
    return best


def _codes(weight: Singles, scale: Singles, bits: int, offset: int) -> Codes:
    """Return the nearest codes; a scale of 0 gives the code in the middle."""
    apart = weight / np.where(scale > 0, scale, np.float32(1))
    return np.clip(np.rint((apart + offset) / 2), 0, (_highest(bits, offset) + offset) // 2).astype(np.uint8)


def _highest(bits: int, offset: int) -> int:
    """Return the highest level in use: three levels leave one of the four codes alone."""
    return offset if offset < (1 << bits) - 1 else (1 << bits) - 1
