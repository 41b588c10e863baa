"""Grids of whole numbers that stand for floats: value = (code - zero) * step."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from graphrewrite.ir import Array

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

Loss: TypeAlias = Callable[[Floats], Floats]  # of what a weight is off by, for each of its outputs

Real = TypeVar("Real", np.float32, np.float64)

_PARTS = tuple(float(part) for part in np.linspace(1.0, 0.3, 36))  # of the step that clips nothing
_LARGEST_BIAS = 2.0**30  # half of what an int32 holds: the sums it starts need the rest


class Span(NamedTuple):
    """The values that a tensor takes, as far as its grid is to tell them apart."""

    low: float
    high: float


class Scale(NamedTuple):
    """The step of a tensor's codes and the code that stands for zero."""

    step: float
    zero: int


class Grid(NamedTuple):
    """Codes `low` to `high` of an element type; on a symmetric grid zero has a fixed code."""

    dtype: np.dtype[np.generic]
    low: int
    high: int
    symmetric: bool

    @property
    def bits(self) -> int:
        """Return the width of a code."""
        return 8 * self.dtype.itemsize

    @property
    def levels(self) -> int:
        """Return the number of codes."""
        return self.high - self.low + 1

    def scale(self, span: Span) -> Scale:
        """Return the finest scale that holds a span and zero; an empty span gets the step 1.

        The step is a float32, and no code above zero stands for more than the span's upper end, so that a bound that
        the span was cut at stays one.
        """
        low, high = min(span.low, 0.0), max(span.high, 0.0)
        if self.symmetric:
            middle = (self.low + self.high + 1) // 2
            return Scale(_step(max(-low, high), self.high - middle), middle)
        if low == 0.0:
            return Scale(_step(high, self.high - self.low), self.low)
        if high == 0.0:
            return Scale(_step(-low, self.high - self.low), self.high)
        step = float(np.float32((high - low) / (self.high - self.low)))
        if not step:
            return Scale(1.0, self.low)
        return Scale(step, int(np.clip(np.rint(self.low - low / step), self.low, self.high)))

    def round(self, values: Floats, scale: Scale) -> Floats:
        """Return the values that the nearest codes stand for; the even code where two are as near."""
        codes = np.clip(np.rint(values / scale.step) + scale.zero, self.low, self.high)
        return np.asarray((codes - scale.zero) * scale.step)


GRIDS = {
    "uint8": Grid(np.dtype(np.uint8), 0, 255, symmetric=False),
    "int8": Grid(np.dtype(np.int8), -128, 127, symmetric=False),
    "uint16": Grid(np.dtype(np.uint16), 0, 65535, symmetric=False),
    "int16": Grid(np.dtype(np.int16), -32768, 32767, symmetric=False),
    "uint8_symmetric": Grid(np.dtype(np.uint8), 1, 255, symmetric=True),
    "int8_symmetric": Grid(np.dtype(np.int8), -127, 127, symmetric=True),
    "int16_symmetric": Grid(np.dtype(np.int16), -32767, 32767, symmetric=True),
}


def _step(reach: float, codes: int) -> float:
    step = np.float32(reach / codes)
    while step > 0 and np.float32(codes) * step > np.float32(reach):
        step = np.nextafter(step, np.float32(0))
    return float(step) or 1.0


class Stored(NamedTuple):
    """A constant as codes of its own shape: `steps` is [] or one for each position of `axis`.

    Codes of less than seven bits are signed and have their zero at 0, so that they can be filed packed. They lie
    `apart`: 1, or 2 for odd ones, of which none is zero.
    """

    codes: Array
    steps: Singles
    axis: int
    zero: int = 0
    bits: int = 8
    apart: int = 1

    def expand(self) -> Singles:
        """Return what it stands for, computed as DequantizeLinear does."""
        above = (self.codes.astype(np.int64) - self.zero).astype(np.float32)
        return np.asarray(above * along(self.steps, self.axis, self.codes.ndim))


def along(steps: npt.NDArray[Real], axis: int, rank: int) -> npt.NDArray[Real]:
    """View steps so that they meet an array of `rank` axes at `axis`."""
    if not steps.ndim:
        return steps
    return steps.reshape([-1 if each == axis else 1 for each in range(rank)])


def stored_weight(
    weight: Array,
    axis: int | None,
    bits: int,
    least: Floats | None = None,
    apart: int = 1,
    loss: Loss | None = None,
) -> Stored:
    """Round a weight to int8 codes of `bits` bits, symmetric: a step for each position of `axis`, or one for all.

    Codes that are 1 apart are 2 ** bits - 1 in number, zero among them; odd codes, 2 apart, are 2 ** bits. With 8 bits
    the largest weight gets the highest code. With fewer, steps are coarse, and it may be better to clip: of several
    parts of that step each channel takes the one with the least `loss`: the squared error unless told.

    `least` [outputs] are steps that may not be gone below, so that a bias fits. A channel of zeros gets the mean step
    of the others: its bias is counted in it; a millionth of that where no code is zero.
    """
    top = 2 ** (bits - 1) - 1 if apart == 1 else 2**bits - 1
    wide = weight.astype(np.float64)
    others = tuple(each for each in range(wide.ndim) if each != axis)
    steps = np.abs(wide).max(axis=others, initial=0.0).reshape(-1) / top
    if bits < 8:
        loss = loss or (lambda away: np.asarray(np.square(away).sum(axis=others)).reshape(-1))
        steps = _best_parts(wide, steps, axis, top, apart, loss)
    steps[steps < np.finfo(np.float32).tiny] = 0.0
    usual = float(steps[steps > 0].mean()) if (steps > 0).any() else 1.0
    usual *= 1.0 if apart == 1 else 1e-6
    steps = np.where(steps > 0, steps, usual)
    if least is not None:
        steps = np.maximum(steps, least if axis is not None else least.max(initial=0.0))
    kept = steps.astype(np.float32) if axis is not None else steps.astype(np.float32).reshape(())
    codes = _nearest(wide / along(kept, axis or 0, wide.ndim).astype(np.float64), top, apart)
    return Stored(codes.astype(np.int8), kept, axis or 0, bits=bits, apart=apart)


def _nearest(in_steps: Floats, top: int, apart: int) -> Floats:
    first = apart - 1  # odd codes are even ones and 1
    return np.asarray(np.clip(np.rint((in_steps - first) / apart) * apart + first, -top, top))


def _best_parts(wide: Floats, steps: Floats, axis: int | None, top: int, apart: int, loss: Loss) -> Floats:
    best, least = steps, np.full(steps.shape, np.inf)
    for part in _PARTS:
        tried = np.where(steps > 0, steps * part, 1.0)
        spread = along(tried if axis is not None else tried.reshape(()), axis or 0, wide.ndim)
        away = _nearest(wide / spread, top, apart) * spread - wide
        error = loss(away) if axis is not None else loss(away).sum(keepdims=True)
        best, least = np.where(error < least, steps * part, best), np.minimum(error, least)
    return np.asarray(best)


def stored_operand(values: Array, grid: Grid) -> Stored:
    """Round a constant that stands beside activations: on their grid, with one scale."""
    wide = values.astype(np.float64)
    scale = grid.scale(Span(float(wide.min(initial=0.0)), float(wide.max(initial=0.0))))
    codes = np.clip(np.rint(wide / scale.step) + scale.zero, grid.low, grid.high).astype(grid.dtype)
    return Stored(codes, np.asarray(scale.step, np.float32), 0, scale.zero)


def least_steps(bias: Array, input_step: float) -> Floats:
    """Return the smallest weight steps [outputs] with which a bias fits into 32 bits."""
    return np.asarray(np.abs(bias.astype(np.float64)) / (_LARGEST_BIAS * input_step))


def stored_bias(bias: Array, input_step: float, steps: Singles) -> Stored:
    """Round a bias [outputs] to int32 codes in units of the input's step times the weight's, which kernels add."""
    unit = np.broadcast_to(np.float32(input_step) * steps, bias.shape).astype(np.float32)
    return Stored(np.rint(bias.astype(np.float64) / unit).astype(np.int32), unit, 0)
