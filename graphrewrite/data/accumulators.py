"""Statistics that grow batch by batch and never hold a batch: update(array), then result().

All sums are float64 whatever the arrays are. `axis` is the channel axis of the arrays that come in; every other axis,
the samples' included, is summed over. Without an axis there is one channel.
"""

from math import prod
from typing import ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import InvalidConfig, InvalidData, ShapeError
from graphrewrite.ir import Array

Floats: TypeAlias = npt.NDArray[np.float64]

# Rows that are converted to float64 at a time, so that the copy of a large activation stays small.
_ROWS = 16_384


@runtime_checkable
class Accumulator(Protocol):
    """Takes arrays one after another; `result()` returns what they amount to, in a form of its own."""

    def update(self, array: Array) -> None:
        """Take in one batch."""
        ...

    def result(self) -> object:
        """Return the statistic over everything taken in."""
        ...


class Extremes(NamedTuple):
    """Smallest and largest value, each [channels]."""

    low: Floats
    high: Floats


class MinMax:
    """Range of each channel; a NaN in the data shows in the result."""

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis
        self._low: Floats | None = None
        self._high: Floats | None = None

    def update(self, array: Array) -> None:
        """Widen the range by one batch."""
        rows = by_channel(array, self.axis)
        if not rows.size:
            return
        low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
        if self._low is None or self._high is None:
            self._low, self._high = low, high
            return
        _same_channels(self, len(self._low), len(low))
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)

    def result(self) -> Extremes:
        """Return the range.

        Raises:
            InvalidData: nothing was taken in.
        """
        if self._low is None or self._high is None:
            raise _nothing(self)
        return Extremes(self._low, self._high)


class Spread(NamedTuple):
    """Number of rows, the mean of each channel over them, and the variance around it (divided by the number)."""

    rows: int
    mean: Floats
    variance: Floats


class Moments:
    """Mean and variance of each channel, merged batch by batch so that a large mean costs no digits.

    The merge is that of Chan, Golub and LeVeque (1983), equation 1.5.
    """

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis
        self._count = 0
        self._mean: Floats = np.zeros(0)
        self._squares: Floats = np.zeros(0)

    def update(self, array: Array) -> None:
        """Merge the moments of one batch, a block of rows at a time."""
        rows = by_channel(array, self.axis)
        for start in range(0, len(rows), _ROWS):
            self._merge(rows[start : start + _ROWS].astype(np.float64))

    def _merge(self, block: Floats) -> None:
        count, mean = len(block), block.mean(axis=0)
        squares = np.square(block - mean).sum(axis=0)
        if not self._count:
            self._count, self._mean, self._squares = count, mean, squares
            return
        _same_channels(self, len(self._mean), len(mean))
        total = self._count + count
        step = mean - self._mean
        self._mean = self._mean + step * (count / total)
        self._squares = self._squares + squares + np.square(step) * (self._count * count / total)
        self._count = total

    def result(self) -> Spread:
        """Return the moments.

        Raises:
            InvalidData: nothing was taken in.
        """
        if not self._count:
            raise _nothing(self)
        return Spread(self._count, self._mean.copy(), self._squares / self._count)


class Paired(Protocol):
    """An accumulator that may be asked for a pair of tensors, and then gets both arrays of a batch together."""

    takes_pairs: ClassVar[bool]

    def update(self, array: Array, target: Array | None = None) -> None:
        """Take in one batch of both."""
        ...


class Products(NamedTuple):
    """Sums over all rows: `gram` is x^T x [features, features], `cross` x^T y [features, targets] when y was given.

    `x_sum` [features] and `y_sum` [targets] are the plain sums, which a fit with an intercept needs.
    """

    rows: int
    gram: Floats
    x_sum: Floats
    cross: Floats | None
    y_sum: Floats | None


class Gram:
    """The normal equations of least squares: what is needed to find W with x W = y, without keeping x or y.

    Rows are all positions of all samples, features the channels. Given under a pair of tensor names, `update` gets both
    arrays, which must have the same positions.
    """

    takes_pairs: ClassVar[bool] = True

    def __init__(self, axis: int | None = -1, target_axis: int | None = None) -> None:
        self.axis = axis
        self.target_axis = axis if target_axis is None else target_axis
        self._count = 0
        self._gram: Floats = np.zeros((0, 0))
        self._x_sum: Floats = np.zeros(0)
        self._cross: Floats | None = None
        self._y_sum: Floats | None = None

    def update(self, array: Array, target: Array | None = None) -> None:
        """Add the products of one batch.

        Raises:
            ShapeError: `target` has another number of rows, or is given in some batches only.
        """
        rows = by_channel(array, self.axis)
        goals = None if target is None else by_channel(target, self.target_axis)
        if goals is not None and len(goals) != len(rows):
            raise ShapeError(
                f"Gram was given {len(rows)} rows of features (from {list(array.shape)}) and {len(goals)} rows of "
                "targets; expected the same positions in both; choose two tensors of the same layer"
            )
        if not self._count:
            features = rows.shape[1]
            self._gram, self._x_sum = np.zeros((features, features)), np.zeros(features)
            if goals is not None:
                self._cross, self._y_sum = np.zeros((features, goals.shape[1])), np.zeros(goals.shape[1])
        elif (goals is None) != (self._cross is None):
            raise ShapeError("Gram was given targets in some batches only; expected them always or never")
        _same_channels(self, len(self._x_sum), rows.shape[1])
        for start in range(0, len(rows), _ROWS):
            x = rows[start : start + _ROWS].astype(np.float64)
            self._gram += x.T @ x
            self._x_sum += x.sum(axis=0)
            if goals is not None and self._cross is not None and self._y_sum is not None:
                y = goals[start : start + _ROWS].astype(np.float64)
                self._cross += x.T @ y
                self._y_sum += y.sum(axis=0)
        self._count += len(rows)

    def result(self) -> Products:
        """Return the sums.

        Raises:
            InvalidData: nothing was taken in.
        """
        if not self._count:
            raise _nothing(self)
        return Products(self._count, self._gram, self._x_sum, self._cross, self._y_sum)


class Counts(NamedTuple):
    """`counts` [channels, bins] of values within `edges` [bins + 1]; `left_out` is the number of NaN and infinities."""

    counts: npt.NDArray[np.int64]
    edges: Floats
    left_out: int


class Histogram:
    """How often values fall into bins of equal width, over a range that doubles when a value lies outside it.

    Doubling merges neighbouring bins, so nothing is counted twice or lost; all channels share the range. The first
    batch sets the range, unless `low` and `high` do.
    """

    def __init__(
        self, bins: int = 2048, axis: int | None = None, low: float | None = None, high: float | None = None
    ) -> None:
        if bins < 2 or bins % 2:
            raise InvalidConfig(
                f"Histogram.bins is {bins}; it must be even and at least 2, so that bins can be merged"
            )
        if (low is None) != (high is None) or (low is not None and high is not None and not low < high):
            raise InvalidConfig(
                f"Histogram has the range {low} to {high}; give both ends in order, or neither"
            )
        self.bins = bins
        self.axis = axis
        self._low, self._high = low, high
        self._counts: npt.NDArray[np.int64] | None = None
        self._left_out = 0

    def update(self, array: Array) -> None:
        """Count one batch."""
        rows = by_channel(array, self.axis)
        for start in range(0, len(rows), _ROWS):
            self._add(rows[start : start + _ROWS].astype(np.float64))

    def _add(self, block: Floats) -> None:
        channels = block.shape[1]
        if self._counts is None:
            self._counts = np.zeros((channels, self.bins), np.int64)
        _same_channels(self, len(self._counts), channels)
        finite = np.isfinite(block)
        self._left_out += int(block.size - finite.sum())
        if not finite.any():
            return
        least, most = float(block[finite].min()), float(block[finite].max())
        if self._low is None or self._high is None:
            margin = max(abs(least), 1.0) * 2.0**-20 if least == most else 0.0
            self._low, self._high = least - margin, most + margin
        while least < self._low or most > self._high:
            self._double(down=least < self._low)
        low, high = self._low, self._high
        scaled = (np.where(finite, block, low) - low) * (self.bins / (high - low))
        place = np.clip(scaled.astype(np.int64), 0, self.bins - 1)  # the upper end belongs to the last bin
        place += self.bins * np.arange(channels)
        found = np.bincount(place[finite], minlength=channels * self.bins)
        self._counts = self._counts + found.reshape(channels, self.bins)

    def _double(self, down: bool) -> None:
        """Make the range twice as wide towards one side; the old bins become one half of the new ones."""
        assert self._counts is not None and self._low is not None and self._high is not None
        merged = self._counts.reshape(len(self._counts), self.bins // 2, 2).sum(axis=2)
        empty = np.zeros_like(merged)
        width = self._high - self._low
        self._counts = np.concatenate([empty, merged] if down else [merged, empty], axis=1)
        self._low, self._high = (self._low - width, self._high) if down else (self._low, self._high + width)

    def result(self) -> Counts:
        """Return counts and bin edges.

        Raises:
            InvalidData: no finite value was taken in.
        """
        if self._counts is None or self._low is None or self._high is None:
            raise _nothing(self)
        return Counts(self._counts.copy(), np.linspace(self._low, self._high, self.bins + 1), self._left_out)


class Spectra(NamedTuple):
    """Mean over `samples` maps of their `rank` and of the sum of their singular values (`nuclear`), each [channels]."""

    samples: int
    rank: Floats
    nuclear: Floats


class Rank:
    """Mean rank of each channel's feature map, one map per sample (Lin et al., 2020, HRank, equation 4).

    A map of one axis counts as a row; of more than two, the first stays and the others are flattened together. A
    singular value counts when it is more than rounding of the map's own precision could leave behind: the largest one
    times the longer side times the epsilon of float32 (of float64 for arrays that are).
    """

    def __init__(self, axis: int = 1) -> None:
        self.axis = axis
        self._samples = 0
        self._rank: Floats = np.zeros(0)
        self._nuclear: Floats = np.zeros(0)

    def update(self, array: Array) -> None:
        """Add the spectra of one batch; axis 0 holds the samples.

        Raises:
            ShapeError: the array has fewer than two axes, or its channel axis is that of the samples.
            InvalidData: a value is not finite.
        """
        if array.ndim < 2 or not -array.ndim < self.axis < array.ndim or not self.axis:
            raise ShapeError(
                f"Rank was given an array of shape {list(array.shape)} with channels on axis {self.axis}; expected "
                "samples on axis 0 and channels on another of its axes; name another tensor or axis"
            )
        _check_real(array)
        maps = np.moveaxis(array, self.axis, 1)
        sizes = maps.shape[2:]
        rows, columns = (sizes[0], prod(sizes[1:])) if len(sizes) > 1 else (1, prod(sizes))
        epsilon = np.finfo(np.float64 if array.dtype == np.float64 else np.float32).eps
        for sample in maps:  # one sample at a time: the float64 copy and the decomposition stay small
            flat = sample.reshape(len(sample), rows, columns).astype(np.float64)
            if not np.isfinite(flat).all():
                raise InvalidData(
                    "a feature map holds values that are not finite, which has no rank; expected numbers; look for "
                    "where they arise with the inputs of this sample"
                )
            values = np.linalg.svd(flat, compute_uv=False) if flat.size else np.zeros((len(sample), 1))
            least = values.max(axis=1, keepdims=True) * (max(flat.shape[1:]) * epsilon)
            rank, nuclear = (values > least).sum(axis=1).astype(np.float64), values.sum(axis=1)
            if not self._samples:
                self._rank, self._nuclear = np.zeros(len(sample)), np.zeros(len(sample))
            _same_channels(self, len(self._rank), len(sample))
            self._rank = self._rank + rank
            self._nuclear = self._nuclear + nuclear
            self._samples += 1

    def result(self) -> Spectra:
        """Return the means.

        Raises:
            InvalidData: nothing was taken in.
        """
        if not self._samples:
            raise _nothing(self)
        return Spectra(self._samples, self._rank / self._samples, self._nuclear / self._samples)


def by_channel(array: Array, axis: int | None) -> Array:
    """View an array as [rows, channels]; without an axis as [rows, 1].

    Raises:
        ShapeError: the array has no such axis.
        InvalidData: it holds text or complex numbers.
    """
    _check_real(array)
    if axis is None:
        return array.reshape(-1, 1)
    _check_axis(array, axis)
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])


def _check_axis(array: Array, axis: int) -> None:
    if not -array.ndim <= axis < array.ndim:
        raise ShapeError(
            f"the channel axis is {axis}, but the tensor has shape {list(array.shape)}; expected an axis of the "
            "tensor; name another axis or another tensor"
        )


def _check_real(array: Array) -> None:
    if array.dtype.kind in "OUSc":
        raise InvalidData(
            f"statistics were asked of a tensor of {array.dtype}; expected real numbers; name another tensor"
        )


def _same_channels(accumulator: object, before: int, now: int) -> None:
    if before != now:
        raise ShapeError(
            f"{type(accumulator).__name__} has seen {before} channels and now gets {now}; expected the same in every "
            "batch; the channel axis is probably a symbolic one"
        )


def _nothing(accumulator: object) -> InvalidData:
    return InvalidData(
        f"{type(accumulator).__name__} has seen no values, or no finite ones; expected at least one; check the data"
    )
