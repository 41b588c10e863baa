"""Points drawn evenly: what every other policy has to beat."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.search.policies import Searcher, drawn, policies
from graphrewrite.passes.search.space import Point


@policies.register("random")
@dataclass(frozen=True)
class Random:
    """Draws every coordinate evenly and learns nothing; the baseline.

    `batch` points may be tried at the same time.
    """

    batch: int = 8

    def __post_init__(self) -> None:
        check_counts("Random", batch=self.batch)

    def start(self, sizes: Sequence[int | None], rng: np.random.Generator) -> Searcher:
        """Begin a run."""
        return _Draws(len(sizes), self.batch, rng)


@dataclass
class _Draws:
    count: int
    batch: int
    rng: np.random.Generator

    def ask(self) -> list[Point]:
        return [drawn(self.count, self.rng) for _ in range(self.batch)]

    def tell(self, points: Sequence[Point], scores: Sequence[float]) -> None:
        """Nothing is learned."""


def check_counts(policy: str, **counts: int) -> None:
    """Make sure that settings which count something are at least 1.

    Raises:
        InvalidConfig: one is not.
    """
    for name, count in counts.items():
        if isinstance(count, bool) or count < 1:
            raise InvalidConfig(f"{policy}.{name} is {count!r}; expected a whole number of at least 1")
