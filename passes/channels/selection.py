"""Choosing which units go: cheapest first, by score for what removing them saves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graphrewrite.dims import ChannelGroup, Groups
from graphrewrite.dims.structure import Mask, Terms

Scores = npt.NDArray[np.float64]

# A round of the greedy choice removes at most this share of what is left to remove before savings are counted anew.
_ROUND = 0.04


@dataclass(frozen=True)
class Limits:
    """What may not be crossed: kept counts in steps, a least share per group, groups left alone."""

    multiple: int = 1
    floor: float = 0.1
    untouched: frozenset[str] = frozenset()


class Choice:
    """A growing set of removed units, in chunks that keep every group's count in steps of its granularity."""

    def __init__(self, groups: Groups, scores: Sequence[Scores], limits: Limits) -> None:
        self.groups = groups
        self.dead: Mask = groups.none_dead()
        self._orders: list[npt.NDArray[np.int64]] = []
        self._scores: list[Scores] = []
        self._chunks: list[list[int]] = []  # sizes of the removable chunks, in order
        self._next: list[int] = [0] * len(groups.groups)
        for group, score in zip(groups.groups, scores, strict=True):
            order = np.argsort(score, kind="stable")
            mean = float(np.mean(score))
            self._orders.append(order)
            self._scores.append(score[order] / (mean if mean > 0 else 1.0))
            self._chunks.append([] if group.name in limits.untouched else chunks(group, limits))

    def shortest(self) -> "Choice":
        """Remove everything that may go."""
        for number in range(len(self._chunks)):
            while self._next[number] < len(self._chunks[number]):
                self._take(number)
        return self

    def share(self, kept: float) -> "Choice":
        """Let every group keep the share `kept` of its units, rounded up to its granularity."""
        for number, group in enumerate(self.groups.groups):
            removed = 0
            for size in self._chunks[number]:
                # Half a unit of slack: 0.5 of 3 units is 2 kept, and rounding noise must not decide.
                if removed + size > group.units * (1 - kept) + 1e-9:
                    break
                self._take(number)
                removed += size
        return self

    def greedy(self, terms: Terms, is_met: Callable[[Mask], bool]) -> "Choice":
        """Remove chunks with the least harm per saving until the budget is met; both are counted anew as layers shrink.

        Harm is a unit's score (1 on average in its group) times its share of the layers it belongs to, so thin layers
        and those many others read are spared: summed up, it is a logarithmic barrier against emptying any layer.
        """
        structure = self.groups.structure
        start = structure.total(terms, self.dead)
        while not is_met(self.dead):
            saving = structure.savings(terms, self.dead)
            share = structure.shares(self.dead)
            keys, numbers, sizes, gains = [], [], [], []
            for number, group in enumerate(self.groups.groups):
                left = self._chunks[number][self._next[number] :]
                if not left:
                    continue
                alive = group.unit_ids[~self.dead[group.unit_ids]]
                each = float(saving[alive].mean()) if len(alive) else 0.0
                harm = float(share[alive].mean()) if len(alive) else 0.0
                begin = sum(self._chunks[number][: self._next[number]])
                for size in left:
                    mean = float(self._scores[number][begin : begin + size].mean())
                    keys.append(mean * harm / max(each, 1e-12))
                    numbers.append(number)
                    sizes.append(size)
                    gains.append(each * size)
                    begin += size
            if not keys:
                return self
            # Within a group chunks come in order of score, so a stable sort never takes one before its predecessor.
            order = np.argsort(np.asarray(keys), kind="stable")
            budget, gone = _ROUND * start, 0.0
            for place in order:
                self._take(numbers[place])
                gone += gains[place]
                if gone >= budget or is_met(self.dead):
                    break
        return self

    def _take(self, number: int) -> None:
        size = self._chunks[number][self._next[number]]
        begin = sum(self._chunks[number][: self._next[number]])
        self.dead[self.groups.groups[number].unit_ids[self._orders[number][begin : begin + size]]] = True
        self._next[number] += 1


def chunks(group: ChannelGroup, limits: Limits) -> list[int]:
    """Return the sizes of the chunks that may go from a group, so that what stays is always a multiple.

    `multiple` counts positions of the weight axes: units that own several positions each need a coarser or no step.
    """
    step = limits.multiple // int(np.gcd(limits.multiple, max(group.multiplicity, 1)))
    least = max(1, int(np.ceil(limits.floor * group.units)))
    least = -(-least // step) * step
    removable = group.units - least
    if removable <= 0:
        return []
    first = group.units % step
    sizes = [first] if first else []
    sizes.extend([step] * ((removable - first) // step))
    return sizes


def bisect_share(build: Callable[[float], Choice], is_met: Callable[[Mask], bool], rounds: int = 12) -> Choice:
    """Return the choice with the largest uniform share kept that meets a budget (the smallest share if none does)."""
    low, high = 0.0, 1.0
    best = build(0.0)
    if not is_met(best.dead):
        return best
    for _ in range(rounds):
        middle = (low + high) / 2
        candidate = build(middle)
        if is_met(candidate.dead):
            best, low = candidate, middle
        else:
            high = middle
    return best
