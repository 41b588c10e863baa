"""Evolution: the best so far are changed a little, and crossed with each other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.search.policies import Searcher, drawn, policies
from graphrewrite.passes.search.policies.random import check_counts
from graphrewrite.passes.search.space import Point


@policies.register("evolution")
@dataclass(frozen=True)
class Evolution:
    """Mutants and children of the best points seen (Shen et al. 2021).

    Args:
        population: how many of the best are parents.
        first: points drawn evenly at the start.
        mutants: points of a generation that are a parent with some coordinates drawn anew.
        children: points of a generation whose coordinates come from one of two parents each.
        mutation: how probable it is that a coordinate of a mutant is drawn anew; one always is.

    A point that was tried before is not tried again. The paper's numbers are 20, 50, 50 and 50; the probability of a
    mutation is ours. What is searched is up to the space; the paper's own is the rate of each layer.
    """

    population: int = 20
    first: int = 50
    mutants: int = 50
    children: int = 50
    mutation: float = 0.1

    def __post_init__(self) -> None:
        check_counts("Evolution", population=self.population, first=self.first)
        if self.mutants < 0 or self.children < 0 or self.mutants + self.children < 1:
            raise InvalidConfig(
                f"Evolution has {self.mutants} mutants and {self.children} children; expected at least one of either"
            )
        if not 0 < self.mutation <= 1:
            raise InvalidConfig(f"Evolution.mutation is {self.mutation}; expected a probability above 0")

    def start(self, sizes: Sequence[int | None], rng: np.random.Generator) -> Searcher:
        """Begin a run."""
        return _Generations(self, len(sizes), rng)


@dataclass
class _Generations:
    settings: Evolution
    count: int
    rng: np.random.Generator
    best: list[tuple[float, Point]] = field(default_factory=list)
    has_begun: bool = False

    def ask(self) -> list[Point]:
        if not self.has_begun or not self.best:
            self.has_begun = True
            return [drawn(self.count, self.rng) for _ in range(self.settings.first)]
        mutants = [self._mutant() for _ in range(self.settings.mutants)]
        return mutants + [self._child() for _ in range(self.settings.children)]

    def tell(self, points: Sequence[Point], scores: Sequence[float]) -> None:
        known = {point for _, point in self.best}
        fresh = {
            point: score
            for point, score in zip(points, scores, strict=True)
            if score > -np.inf and point not in known
        }
        self.best += [(score, point) for point, score in fresh.items()]
        self.best.sort(key=lambda entry: -entry[0])  # stable: of equals the first stays ahead
        del self.best[self.settings.population :]

    def _parent(self) -> Point:
        return self.best[int(self.rng.integers(len(self.best)))][1]

    def _mutant(self) -> Point:
        changes = self.rng.random(self.count) < self.settings.mutation
        changes[self.rng.integers(self.count)] = True
        fresh = drawn(self.count, self.rng)
        return tuple(
            new if is_changed else old
            for old, new, is_changed in zip(self._parent(), fresh, changes, strict=True)
        )

    def _child(self) -> Point:
        one, other = self._parent(), self._parent()
        takes = self.rng.random(self.count) < 0.5
        return tuple(a if first else b for a, b, first in zip(one, other, takes, strict=True))
