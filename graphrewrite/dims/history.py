"""Who tied what: labels that keep a record, and the record sorted into what joins which weight axes.

A sweep with `Recorder` in place of `Labels` gives the same labels; it only notes every call that learns something.
Afterwards each label has a *bucket*, the group it ended in (or the reason it is pinned for), and a *source*, the call
that handed it out: the axis of a weight, mostly. Replaying the notes bucket by bucket shows at which node sources that
were apart came together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphrewrite.dims.axes import Axis, Rows
from graphrewrite.dims.labels import Ints, Labels


@dataclass(frozen=True, eq=False)
class Note:
    """One call that learnt something: the labels it brought together; `dims` when it saw an axis as several."""

    why: str
    labels: Ints
    dims: tuple[int, ...] = ()


@dataclass(frozen=True)
class Meeting:
    """Sources of one bucket that a note brought together; those of one part had come together before.

    There is one part when nothing new met: an axis was seen as several (`dims`), or positions of it tied to each other.
    """

    why: str
    bucket: int
    parts: tuple[tuple[int, ...], ...]
    dims: tuple[int, ...]


class Recorder(Labels):
    """Labels that note what ties and splits them; about twice the work of plain ones, so only made on request.

    Attributes:
        notes: ties and splits in the order they were learnt.
    """

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[Note] = []
        self._starts: list[int] = []

    def fresh(self, n: int) -> Ints:
        """Return rows [n, 1] of new labels; their call is their source."""
        rows = super().fresh(n)
        if n:
            self._starts.append(int(rows[0, 0]))
        return rows

    def unify(self, x: Ints, y: Ints, why: str) -> None:
        """Make two axes of the same length one axis, and note the positions that were not yet."""
        if len(x) == len(y):  # otherwise the call fails
            a, b = self.resolve(x), self.resolve(y)
            differ = self._unequal(a, b)
            if differ.any():
                self.notes.append(Note(why, _distinct(a[differ], b[differ])))
        super().unify(x, y, why)

    def digits(self, rows: Ints, dims: Sequence[int], why: str) -> list[Ints]:
        """See an axis as several, and note the positions whose labels became others by it."""
        before = self.resolve(rows)
        result = super().digits(rows, dims, why)
        after = self.resolve(rows)
        if before.shape != after.shape or (before != after).any():
            self.notes.append(Note(why, _distinct(before, after), tuple(int(d) for d in dims)))
        return result

    def sources(self, labels: Ints) -> Ints:
        """Return the number of the `fresh` call that handed out each label."""
        return np.searchsorted(np.asarray(self._starts, dtype=np.int64), labels, side="right") - 1

    def source_of(self, axis: Axis) -> int:
        """Return the source of an axis of fresh labels, -1 for a rigid, merged or split one."""
        if len(axis.factors) != 1 or not isinstance(axis.factors[0], Rows):
            return -1
        labels = axis.factors[0].labels
        if labels.shape[1] != 1 or not len(labels) or labels[0, 0] <= 0:
            return -1
        return int(self.sources(labels[:1, 0])[0])

    def meetings(self, buckets: Ints) -> Iterator[Meeting]:
        """Yield what met in the order of the sweep; `buckets` is [labels]: that of unexpanded labels, -1 for none."""
        rows = self.resolve(np.arange(self.count)[:, None])
        table = np.where(rows > 0, buckets[rows], -1)
        sources = self.sources(np.arange(self.count))
        above: dict[tuple[int, int], tuple[int, int]] = {}
        inside: dict[tuple[int, int], list[int]] = {}

        def root(key: tuple[int, int]) -> tuple[int, int]:
            if key not in above:
                above[key] = key
                inside[key] = [key[1]]
            while above[key] != key:
                above[key] = above[above[key]]
                key = above[key]
            return key

        for note in self.notes:
            for bucket, met in _by_bucket(table[note.labels], sources[note.labels]):
                roots = sorted({root((bucket, source)) for source in met})
                yield Meeting(note.why, bucket, tuple(tuple(inside[key]) for key in roots), note.dims)
                lead = max(roots, key=lambda key: len(inside[key]))
                for key in roots:
                    if key != lead:
                        above[key] = lead
                        inside[lead].extend(inside.pop(key))


def _by_bucket(buckets: Ints, sources: Ints) -> Iterator[tuple[int, list[int]]]:
    """Yield the distinct sources of each bucket; `buckets` is [labels, buckets], `sources` [labels]."""
    known = buckets >= 0
    pairs = np.stack([buckets[known], np.broadcast_to(sources[:, None], buckets.shape)[known]], axis=1)
    if not len(pairs):
        return
    pairs = np.unique(pairs, axis=0)
    for part in np.split(pairs, np.flatnonzero(np.diff(pairs[:, 0])) + 1):
        yield int(part[0, 0]), [int(source) for source in part[:, 1]]


def _distinct(a: Ints, b: Ints) -> Ints:
    labels = np.unique(np.concatenate([a.ravel(), b.ravel()]))
    return labels[labels > 0]
