"""What a branch contributes to its sum, on data: how large it is, and how far it turns the stream."""

from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np

from graphrewrite.data.accumulators import Floats, by_channel
from graphrewrite.dims.structure import Mask
from graphrewrite.ir import Array
from graphrewrite.passes.blocks.block import Block
from graphrewrite.passes.channels.evidence import Evidence, Need

_KEY = "contribution"


class Contribution(NamedTuple):
    """Over `rows` vectors: mean cosine of the stream with and without the branch, and the energy of both parts.

    `branch` and `stream` are sums of squares: of what the branch adds, and of what it is added to.
    """

    rows: int
    cosine: float
    branch: float
    stream: float


class Contributions:
    """Takes a branch and what it enters, batch by batch: a sum, or (`is_part`) a concatenation along `axis`.

    The stream without the branch is the difference to the sum; of a concatenation the other operands, beside zeros.
    A row is the vector of channels at one position (`axis`), or a whole sample where there is no channel axis.
    """

    takes_pairs: ClassVar[bool] = True

    def __init__(self, axis: int | None, is_part: bool = False) -> None:
        self.axis = axis
        self.is_part = is_part
        self._rows = 0
        self._cosines = self._branch = self._stream = 0.0

    def update(self, array: Array, target: Array | None = None) -> None:
        """Add one batch: `array` is what the branch gives, `target` the sum."""
        assert target is not None
        whole = self._as_rows(target)
        if self.is_part:
            part = self._as_rows(array)
            squares = np.square(whole).sum(axis=1)
            rest = np.maximum(squares - np.square(part).sum(axis=1), 0.0)
            # As in a concatenation with zeros in place of the branch: the same inner product, and other lengths.
            self._add(part, rest, rest, np.sqrt(squares * rest), np.all(part == 0, axis=1))
            return
        part = self._as_rows(np.broadcast_to(array, target.shape))
        without = whole - part
        lengths = np.linalg.norm(whole, axis=1) * np.linalg.norm(without, axis=1)
        inner = (whole * without).sum(axis=1)
        self._add(part, np.square(without).sum(axis=1), inner, lengths, np.all(whole == without, axis=1))

    def _add(self, part: Floats, stream: Floats, inner: Floats, lengths: Floats, unmoved: Mask) -> None:
        # Two vectors of zeros point the same way; one alone points nowhere near the other.
        same = np.where(unmoved, 1.0, 0.0)
        self._cosines += float(np.where(lengths > 0, inner / np.where(lengths > 0, lengths, 1.0), same).sum())
        self._branch += float(np.square(part).sum())
        self._stream += float(stream.sum())
        self._rows += len(part)

    def _as_rows(self, array: Array) -> Floats:
        if self.axis is not None:
            return by_channel(array, self.axis).astype(np.float64)
        return np.asarray(array, dtype=np.float64).reshape(len(array) if array.ndim > 1 else 1, -1)

    def result(self) -> Contribution:
        """Return the sums so far."""
        return Contribution(self._rows, self._cosines / max(self._rows, 1), self._branch, self._stream)


def contribution_needs(block: Block) -> tuple[Need, ...]:
    """Ask for the contribution of a block."""
    return (
        Need((block.branch, block.result), _KEY, partial(Contributions, block.axis, block.kind == "concat")),
    )


def contribution_of(block: Block, evidence: Evidence) -> Contribution:
    """Return the contribution of a block that `contribution_needs` asked for."""
    found = evidence.statistic((block.branch, block.result), _KEY)
    assert isinstance(found, Contribution)
    return found
