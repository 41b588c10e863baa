"""What a layer reads and gives as rows of a matrix product, at places drawn from all samples."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphrewrite.data import DataSource
from graphrewrite.data.accumulators import by_channel
from graphrewrite.data.stats import fixed_batch
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Array, Model
from graphrewrite.passes.quant.grid import Singles

Places = npt.NDArray[np.int64]


class Draw(NamedTuple):
    """Which places of each batch are looked at: about `rows` of all, the same in every sweep over the same batches.

    `batches` is how many of them there are; `seed` names the draw.
    """

    rows: int
    batches: int
    seed: int

    def places(self, batch: int, of: int) -> Places:
        """Return ascending places below `of` in the batch of this number."""
        each = min(ceil(self.rows / max(1, self.batches)), of)
        drawn = np.random.default_rng((self.seed, batch)).choice(of, each, replace=False)
        return np.sort(drawn).astype(np.int64)


class _Kept:
    """Rows of all batches."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._rows: list[Singles] = []

    def _keep(self, rows: Array) -> None:
        self._rows.append(np.ascontiguousarray(rows, np.float32))

    def _places(self, of: int) -> Places:
        return self._draw.places(len(self._rows), of)

    def result(self) -> Singles:
        """Return all rows, one batch after the other.

        Raises:
            InvalidData: nothing was taken in.
        """
        if not self._rows:
            raise InvalidData(
                "rows were asked of a sweep without data; expected at least one sample; give some"
            )
        return np.concatenate(self._rows)


class Values(_Kept):
    """The numbers along `axis` at drawn places of a tensor, [rows, channels]."""

    def __init__(self, draw: Draw, axis: int) -> None:
        super().__init__(draw)
        self._axis = axis

    def update(self, array: Array) -> None:
        """Take the places of one batch."""
        rows = by_channel(array, self._axis)
        self._keep(rows[self._places(len(rows))])


class Sliding(NamedTuple):
    """How a convolution's window goes over each axis: its size, strides, dilations, pads (before, then after)."""

    kernel: Sequence[int]
    strides: Sequence[int]
    dilations: Sequence[int]
    pads: Sequence[int]
    auto: str

    def along(self, axis: int, size: int) -> tuple[int, int]:
        """Return what is padded before an axis of this size, and how many windows there are."""
        stride, reach = self.strides[axis], (self.kernel[axis] - 1) * self.dilations[axis] + 1
        if self.auto in ("SAME_UPPER", "SAME_LOWER"):
            windows = -(-size // stride)
            total = max(0, (windows - 1) * stride + reach - size)
            return total // 2 if self.auto == "SAME_UPPER" else total - total // 2, windows
        before, after = (
            (0, 0) if self.auto == "VALID" else (self.pads[axis], self.pads[axis + len(self.kernel)])
        )
        return before, (size + before + after - reach) // stride + 1


class Windows(_Kept):
    """What the windows at drawn places of a convolution see, [rows, channels * positions], channel by channel."""

    def __init__(self, draw: Draw, sliding: Sliding) -> None:
        super().__init__(draw)
        self._sliding = sliding

    def update(self, array: Array) -> None:
        """Take the places of one batch [samples, channels, ...]; what is padded is zero."""
        slide = self._sliding
        sizes = array.shape[2:]
        along = [slide.along(axis, size) for axis, size in enumerate(sizes)]
        counts = [windows for _, windows in along]
        sample, *window = np.unravel_index(
            self._places(len(array) * int(np.prod(counts))), (len(array), *counts)
        )
        seen = np.ones((len(sample), *slide.kernel), bool)
        index = [sample.reshape(-1, *[1] * len(sizes))]
        for axis, (before, _) in enumerate(along):
            place = (
                window[axis][:, None] * slide.strides[axis]
                - before
                + np.arange(slide.kernel[axis]) * slide.dilations[axis]
            )  # [rows, kernel]
            shape = [len(sample)] + [1] * len(sizes)
            shape[1 + axis] = slide.kernel[axis]
            seen &= ((place >= 0) & (place < sizes[axis])).reshape(shape)
            index.append(np.clip(place, 0, sizes[axis] - 1).reshape(shape))
        found = np.moveaxis(array, 1, -1)[tuple(index)]  # [rows, kernel..., channels]
        found = np.moveaxis(np.where(seen[..., None], found, 0), -1, 1)
        self._keep(found.reshape(len(sample), -1))


class Reader(NamedTuple):
    """Who reads a tensor: a convolution through windows that slide over it, or a product along its last axis."""

    tensor: str
    sliding: Sliding | None

    def rows(self, draw: Draw) -> Values | Windows:
        """Return what takes in what is read, as rows [places, groups * inputs]."""
        return Values(draw, -1) if self.sliding is None else Windows(draw, self.sliding)


def batches_of(model: Model, data: DataSource, batch: int) -> int:
    """Return how many batches a sweep over all samples takes."""
    return -(-len(data) // (fixed_batch(model) or batch))
