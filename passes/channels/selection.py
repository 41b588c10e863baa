"""Choosing which units go: cheapest first, by score for what removing them saves."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from math import ceil

import numpy as np
import numpy.typing as npt

from graphrewrite.dims import ChannelGroup, Groups
from graphrewrite.dims.structure import Mask, Terms

Scores = npt.NDArray[np.float64]

# A round of the greedy choice removes at most this share of what is left to remove before savings are counted anew.
_ROUND = 0.04


@dataclass(frozen=True)
class Limits:
    """What may not be crossed: the step of each group's kept count, a least share, and groups left alone."""

    steps: Mapping[str, int] = field(default_factory=dict)
    floor: float = 0.1
    untouched: frozenset[str] = frozenset()

    def step(self, group: ChannelGroup) -> int:
        """Return in which steps a group shrinks (see `granularity`)."""
        return self.steps.get(group.name, 1)


class Choice:
    """A growing set of removed units, in chunks that keep every group's count in steps of its granularity.

    The chunks of all groups lie one after another: `_group`, `_size`, `_mean` (mean score) and `_begin` (place in the
    group's units ordered by score) describe chunk i; chunks of a group go in order.
    """

    def __init__(self, groups: Groups, scores: Sequence[Scores], limits: Limits) -> None:
        self.groups = groups
        self.dead: Mask = groups.none_dead()
        sizes = [chunks(group, limits) for group in groups.groups]
        counts = np.array([len(s) for s in sizes], dtype=np.int64)
        self._group = np.repeat(np.arange(len(sizes)), counts)
        self._size = np.array([n for s in sizes for n in s], dtype=np.int64)
        before = np.concatenate([[0], np.cumsum(self._size)])
        self._begin = before[:-1] - np.repeat(before[np.cumsum(counts) - counts], counts)
        self._taken = np.zeros(len(self._size), dtype=bool)
        unit_counts = np.array([g.units for g in groups.groups], dtype=np.int64)
        self._start = np.concatenate([[0], np.cumsum(unit_counts)]).astype(np.int64)
        self._family = np.repeat(np.arange(len(sizes)), unit_counts)
        values = np.concatenate([*scores, np.zeros(0)])
        order = np.lexsort((values, self._family))
        self._units = np.concatenate([*(g.unit_ids for g in groups.groups), np.zeros(0, np.int64)])[order]
        means = np.array([float(score.sum()) / len(score) or 1.0 for score in scores])
        relative = values[order] / np.repeat(means, unit_counts)
        running = np.concatenate([[0.0], np.cumsum(relative)])
        first = self._start[self._group] + self._begin
        self._mean = (running[first + self._size] - running[first]) / np.maximum(self._size, 1)

    def again(self) -> "Choice":
        """Return an empty choice among the same chunks."""
        other = copy(self)
        other.dead, other._taken = self.groups.none_dead(), np.zeros(len(self._taken), dtype=bool)
        return other

    def shortest(self) -> "Choice":
        """Remove everything that may go."""
        self._take(np.arange(len(self._size)))
        return self

    def share(self, kept: float, named: Mapping[str, float] | None = None) -> "Choice":
        """Let every group keep the share `kept` of its units, rounded up to its granularity; some one of their own."""
        units = np.array([g.units for g in self.groups.groups])
        shares = np.array([(named or {}).get(g.name, kept) for g in self.groups.groups])
        # The slack keeps rounding noise from deciding: 0.5 of 4 units is 2, not 3.
        fits = (
            self._begin + self._size <= (units * (1 - shares))[self._group] + 1e-9
            if len(self._size)
            else np.zeros(0, bool)
        )
        self._take(np.flatnonzero(fits))
        return self

    def greedy(self, terms: Terms, excess: Callable[[Mask], float]) -> "Choice":
        """Remove chunks with the least harm per saving until nothing is in excess; both follow what is gone.

        Harm is a unit's score (1 on average in its group) times its share of the layers it belongs to, so thin layers
        and those many others read are spared: summed up, it is a logarithmic barrier against emptying any layer.
        """
        structure = self.groups.structure
        quota = _ROUND * structure.total(terms, self.dead)
        while (over := excess(self.dead)) > 0:
            left = np.flatnonzero(~self._taken)
            if not len(left):
                return self
            saving = self._per_group(structure.savings(terms, self.dead))
            harm = self._per_group(structure.shares(self.dead))
            owner = self._group[left]
            # Within a group chunks stand in order of score, so a stable sort never takes one before its predecessor.
            key = self._mean[left] * harm[owner] / np.maximum(saving[owner], 1e-12)
            order = left[np.argsort(key, kind="stable")]
            gains = np.cumsum(saving[self._group[order]] * self._size[order])
            count = int(np.searchsorted(gains, min(quota, over))) + 1
            self._take(order[:count])
        return self

    def _per_group(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the mean of a per-unit number over the units of each group that are alive."""
        alive = ~self.dead[self._units]
        count = np.bincount(self._family, weights=alive, minlength=len(self.groups.groups))
        total = np.bincount(
            self._family, weights=values[self._units] * alive, minlength=len(self.groups.groups)
        )
        return np.asarray(total / np.maximum(count, 1))

    def _take(self, which: npt.NDArray[np.int64]) -> None:
        self._taken[which] = True
        if not len(which):
            return
        first = self._start[self._group[which]] + self._begin[which]
        size = self._size[which]
        offsets = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
        self.dead[self._units[np.repeat(first, size) + offsets]] = True


def chunks(group: ChannelGroup, limits: Limits) -> list[int]:
    """Return the sizes of the chunks that may go from a group, so that what stays is a multiple of its step."""
    if group.name in limits.untouched:
        return []
    step = limits.step(group)
    least = max(group.least, ceil(limits.floor * group.units - 1e-9))  # 0.07 of 100 units are 7, not 8
    least = -(-least // step) * step
    removable = group.units - least
    if removable <= 0:
        return []
    first = group.units % step
    sizes = [first] if first else []
    sizes.extend([step] * ((removable - first) // step))
    return sizes


def bisect_share(
    build: Callable[[float], Choice], is_met: Callable[[Choice], bool], rounds: int = 12
) -> Choice:
    """Return the choice with the largest uniform share kept that meets a budget (the smallest share if none does)."""
    low, high = 0.0, 1.0
    best = build(0.0)
    if not is_met(best):
        return best
    for _ in range(rounds):
        middle = (low + high) / 2
        candidate = build(middle)
        if is_met(candidate):
            best, low = candidate, middle
        else:
            high = middle
    return best
