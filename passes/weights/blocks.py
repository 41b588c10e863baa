"""Rounding the rows of a weight: neighbours in a row that share a step are a block.

A code of few bits is far from most of what it stands for, so a step that clips the largest numbers may be nearer to all
of them together. Several parts of the step that clips nothing are tried; the best of them is improved once by least
squares, with the codes as they are.
"""

from typing import NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from graphrewrite.ir import Array

Singles = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int16]

_PARTS, _ENDS = 12, 5  # how many parts of a step are tried, and of either end where each is tried by itself
_AT_ONCE = 1 << 20  # numbers that are looked at together

FLOAT8 = {
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
LARGEST = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}


class Blocks(NamedTuple):
    """Rows of numbers as codes [rows, blocks, block]; value = (code - zero) * step.

    Codes and zeros are signed whole numbers of `bits` bits, or codes are float8 and `bits` is 8. `steps` and `zeros`
    are [rows, blocks]; without zeros all are 0. A row has `width` numbers; behind its end the last block is filled up
    with zeros.
    """

    codes: Array
    steps: Singles
    zeros: Array | None
    width: int
    bits: int

    @property
    def block(self) -> int:
        """Return how many numbers share a step."""
        return int(self.codes.shape[2])

    def expand(self) -> Singles:
        """Return what it stands for, [rows, width], computed as DequantizeLinear does."""
        above = self.codes.astype(np.float32)
        if self.zeros is not None:
            above = above - self.zeros.astype(np.float32)[..., None]
        return np.asarray((above * self.steps[..., None]).reshape(len(above), -1)[:, : self.width])

    def away(self, rows: Singles) -> float:
        """Return how far it lies from the rows that were rounded, relative to their size."""
        norm = float(np.linalg.norm(rows))
        return float(np.linalg.norm(rows - self.expand())) / norm if norm else 0.0


def rounded(rows: Singles, bits: int, block: int, symmetric: bool = True, negative: bool = True) -> Blocks:
    """Round `rows` [rows, width] to whole codes with a step for each `block` numbers, 0 for one step for each row.

    Symmetric codes have their zero at 0 and reach one further below it than above; `negative` lets a step be
    negative, so that the far end goes to where the largest number is.
    """
    cut = _cut(rows, block)
    steps, zeros = np.ones(cut.shape[:2], np.float32), np.zeros(cut.shape[:2], np.int16)
    codes = np.empty(cut.shape, np.int8)
    at_once = max(1, _AT_ONCE // max(cut[0].size, 1))
    for start in range(0, len(cut), at_once):
        part = slice(start, start + at_once)
        found = _symmetric(cut[part], bits, negative) if symmetric else _asymmetric(cut[part], bits)
        codes[part], steps[part], zeros[part] = found
    kept = None if symmetric else zeros.astype(np.int8)
    return Blocks(codes, steps, kept, rows.shape[1], bits)


def rounded_to_float8(rows: Singles, dtype: str, block: int) -> Blocks:
    """Round `rows` [rows, width] to a type of `FLOAT8`; the largest number of a block gets the largest code."""
    kind, cut = FLOAT8[dtype], _cut(rows, block)
    largest = LARGEST[dtype]
    steps = (np.abs(cut).max(axis=2) / np.float32(largest)).astype(np.float32)
    steps = np.where(steps >= np.finfo(np.float32).tiny, steps, np.float32(1))
    codes = np.clip(cut / steps[..., None], -largest, largest).astype(kind)
    return Blocks(codes, steps, None, rows.shape[1], 8)


def _cut(rows: Singles, block: int) -> Singles:
    """Return rows in blocks [rows, blocks, block]."""
    block = block or rows.shape[1]
    filled = np.pad(rows, ((0, 0), (0, -rows.shape[1] % block)))
    return filled.reshape(len(rows), -1, block)


def _symmetric(cut: Singles, bits: int, negative: bool) -> tuple[Codes, Singles, Codes]:
    half = 2 ** (bits - 1)
    largest = np.abs(cut).max(axis=2)
    zeros = np.zeros(largest.shape, np.int16)
    # With part 1 the largest number gets the lowest code if it has the right sign, with the second the highest too.
    parts = [1.0, half / (half - 1)]
    if bits < 8:
        parts += np.linspace(_least(half), half / (half - 1), _PARTS).tolist()
    signs = (1, -1) if negative else (1,)
    tried = [np.asarray(largest * (sign * part / half), np.float32) for part in parts for sign in signs]
    return _nearest(cut, bits, [(step, zeros) for step in tried])


def _asymmetric(cut: Singles, bits: int) -> tuple[Codes, Singles, Codes]:
    low, high = np.minimum(cut.min(axis=2), 0), np.maximum(cut.max(axis=2), 0)
    half = 2 ** (bits - 1)
    parts = np.linspace(_least(half), 1.0, _ENDS).tolist() if bits < 8 else [1.0]
    tried = []
    for part_below in parts:
        for part_above in parts:
            step = np.asarray((high * part_above - low * part_below) / (2 * half - 1), np.float32)
            zero = np.rint(-half - low * part_below / np.where(step > 0, step, 1))
            tried.append((step, np.clip(zero, -half, half - 1).astype(np.int16)))
    return _nearest(cut, bits, tried)


def _least(half: int) -> float:
    """Return the least part to try: the more codes there are, the less is worth clipping."""
    return max(0.4, 1 - 2.5 / half)


def _nearest(cut: Singles, bits: int, tried: list[tuple[Singles, Codes]]) -> tuple[Codes, Singles, Codes]:
    """Return codes, steps and zeros of the try with the least squared error, block by block."""
    steps, zeros = np.ones(cut.shape[:2], np.float32), np.zeros(cut.shape[:2], np.int16)
    least = np.full(cut.shape[:2], np.inf, np.float32)

    def consider(step: Singles, zero: Codes) -> None:
        step = np.where(np.abs(step) >= np.finfo(np.float32).tiny, step, np.float32(1))
        above = _coded(cut, step, zero, bits) - zero[..., None]
        error = np.square(above * step[..., None] - cut).sum(axis=2)
        better = error < least
        steps[better], zeros[better], least[better] = step[better], zero[better], error[better]

    for step, zero in tried:
        consider(step, zero)
    above = (_coded(cut, steps, zeros, bits) - zeros[..., None]).astype(np.float32)
    squares = np.square(above).sum(axis=2)
    consider((above * cut).sum(axis=2) / np.where(squares > 0, squares, 1), zeros.copy())
    return _coded(cut, steps, zeros, bits), steps, zeros


def _coded(cut: Singles, steps: Singles, zeros: Codes, bits: int) -> Codes:
    half = 2 ** (bits - 1)
    codes = np.clip(np.rint(cut / steps[..., None]) + zeros[..., None], -half, half - 1)
    return np.asarray(codes, np.int16)
