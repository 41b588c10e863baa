"""Policies: which candidates to try next, given what the ones before were worth.

A policy sees points of the unit cube and scores, larger = better; it knows neither model nor pipeline. Its settings are
a frozen dataclass; `start` makes the searcher that holds the state of one run. A run is a sequence of batches: all of a
batch may be tried at the same time, and what comes of a run does not depend on how many are.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from graphrewrite.passes.search.space import Point
from graphrewrite.registry import Registry


class Searcher(Protocol):
    """The state of one run."""

    def ask(self) -> list[Point]:
        """Return the next batch of points, at least one; they may have been tried before."""
        ...

    def tell(self, points: Sequence[Point], scores: Sequence[float]) -> None:
        """Take note of what points were worth, -inf where nothing came of one; others than those asked for, too."""
        ...


@runtime_checkable
class Policy(Protocol):
    """A frozen dataclass whose fields are its settings."""

    def start(self, sizes: Sequence[int | None], rng: np.random.Generator) -> Searcher:
        """Begin a run; `sizes` says how many values each coordinate stands for, None for a span without steps."""
        ...


policies: Registry[Policy] = Registry("policy", package=__name__, of=Policy)


def drawn(count: int, rng: np.random.Generator) -> Point:
    """Return a point drawn evenly from the cube of `count` coordinates."""
    return tuple(float(place) for place in rng.random(count))
