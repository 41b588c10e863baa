"""What a branch contributes to its sum, on data: how large it is, and how far it turns the stream."""

from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np

from graphrewrite.data.accumulators import Floats, by_channel
from graphrewrite.ir import Array
from graphrewrite.passes.blocks.find import Block
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
    """Takes a branch and the sum it enters, batch by batch; the stream without the branch is their difference.

    A row is the vector of channels at one position (`axis`), or a whole sample where there is no channel axis.
    """

    takes_pairs: ClassVar[bool] = True

    def __init__(self, axis: int | None) -> None:
        self.axis = axis
        self._rows = 0
        self._cosines = self._branch = self._stream = 0.0

    def update(self, array: Array, target: Array | None = None) -> None:
        """Add one batch: `array` is what the branch gives, `target` the sum."""
        assert target is not None
        whole = self._as_rows(target)
        part = self._as_rows(np.broadcast_to(array, target.shape))
        without = whole - part
        lengths = np.linalg.norm(whole, axis=1) * np.linalg.norm(without, axis=1)
        inner = (whole * without).sum(axis=1)
        # Two vectors of zeros point the same way; one alone points nowhere near the other.
        same = np.where((whole == without).all(axis=1), 1.0, 0.0)
        self._cosines += float(np.where(lengths > 0, inner / np.where(lengths > 0, lengths, 1.0), same).sum())
        self._branch += float(np.square(part).sum())
        self._stream += float(np.square(without).sum())
        self._rows += len(whole)

    def _as_rows(self, array: Array) -> Floats:
        if self.axis is not None:
            return by_channel(array, self.axis).astype(np.float64)
        return np.asarray(array, dtype=np.float64).reshape(len(array) if array.ndim > 1 else 1, -1)

    def result(self) -> Contribution:
        """Return the sums so far."""
        return Contribution(self._rows, self._cosines / max(self._rows, 1), self._branch, self._stream)


def contribution_needs(block: Block) -> tuple[Need, ...]:
    """Ask for the contribution of a block."""
    return (Need((block.branch, block.result), _KEY, partial(Contributions, block.axis)),)


def contribution_of(block: Block, evidence: Evidence) -> Contribution:
    """Return the contribution of a block that `contribution_needs` asked for."""
    found = evidence.statistic((block.branch, block.result), _KEY)
    assert isinstance(found, Contribution)
    return found
