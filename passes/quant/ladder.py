"""Going up from few bits to more: forms of a layer with what they cost, and the order in which layers go up."""

import heapq
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from graphrewrite.passes.quant.plan import Tier


class Rung(NamedTuple):
    """A form of a layer, the bytes that its weight takes then, and the noise it brings by itself."""

    tier: Tier
    size: int
    noise: float


class Ladder(NamedTuple):
    """The forms of a layer, from the one with the fewest bits up to floats."""

    name: str
    rungs: Sequence[Rung]

    def above(self, rung: int) -> int:
        """Return the first rung above that halves the noise at least, the last where none does."""
        higher = range(rung + 1, len(self.rungs))
        half = self.rungs[rung].noise / 2
        return next((each for each in higher if self.rungs[each].noise <= half), len(self.rungs) - 1)


def walk(ladders: Sequence[Ladder], largest: int = 0) -> list[dict[str, int]]:
    """Return the rungs of all layers at each step up, all on the lowest first; every step takes the largest gain.

    With `largest`, gains count by the byte, and a layer that does not fit into so many bytes stays where it is.
    """
    at = {ladder.name: 0 for ladder in ladders}
    size = sum(ladder.rungs[0].size for ladder in ladders)
    waiting: list[tuple[float, int]] = []
    for number, ladder in enumerate(ladders):
        _wait(waiting, number, ladder, 0, largest)
    states = [dict(at)]
    while waiting:
        number = heapq.heappop(waiting)[1]
        ladder = ladders[number]
        here, there = at[ladder.name], ladder.above(at[ladder.name])
        more = ladder.rungs[there].size - ladder.rungs[here].size
        if largest and size + more > largest:
            continue
        size += more
        at[ladder.name] = there
        states.append(dict(at))
        _wait(waiting, number, ladder, there, largest)
    return states


def _wait(waiting: list[tuple[float, int]], number: int, ladder: Ladder, here: int, largest: int) -> None:
    if here + 1 >= len(ladder.rungs):
        return
    low, high = ladder.rungs[here], ladder.rungs[ladder.above(here)]
    gain = low.noise - high.noise
    heapq.heappush(waiting, (-gain / max(1, high.size - low.size) if largest else -gain, number))


def size_of(ladders: Sequence[Ladder], state: Mapping[str, int]) -> int:
    """Return the bytes that the weights take in a state."""
    return sum(ladder.rungs[state[ladder.name]].size for ladder in ladders)
