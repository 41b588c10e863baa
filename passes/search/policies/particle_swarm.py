"""A swarm: points that fly towards the best they have seen, and towards the best anyone has."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.search.policies import Searcher, drawn, policies
from graphrewrite.passes.search.policies.random import check_counts
from graphrewrite.passes.search.space import Point

Floats = npt.NDArray[np.float64]


@policies.register("particle_swarm")
@dataclass(frozen=True)
class ParticleSwarm:
    """Particles with speeds, in the form with a constriction (Clerc and Kennedy 2002; Chang et al. 2021 for widths).

    Args:
        particles: points of a batch.
        cycles: batches over which inertia falls from its first value to its last; it stays there.
        inertia: first and last share of the old speed.
        pull: how strongly the particle's own best and the swarm's draw.
        constriction: what the whole speed is multiplied by.
        reach: largest speed, as a share of a coordinate's range.
        moving: coordinates that move in a cycle, drawn for each particle; 0 for all.

    A value comes from where a coordinate lies in its range, so options of a `Choice` should stand in an order that
    means something. The paper rounds to whole channels and moves 8 widths a cycle; here ranges have one length, and
    inertia falls along a line.
    """

    particles: int = 10
    cycles: int = 8
    inertia: tuple[float, float] = (0.9, 0.4)
    pull: float = 2.0
    constriction: float = 0.729
    reach: float = 0.25
    moving: int = 0

    def __post_init__(self) -> None:
        check_counts("ParticleSwarm", particles=self.particles, cycles=self.cycles)
        if min(*self.inertia, self.pull, self.constriction) < 0 or not 0 < self.reach <= 1 or self.moving < 0:
            raise InvalidConfig(
                f"{self} cannot fly; expected no negative number, and a reach above 0 and at most 1"
            )

    def start(self, sizes: Sequence[int | None], rng: np.random.Generator) -> Searcher:
        """Begin a run."""
        return _Swarm(self, len(sizes), rng)


@dataclass
class _Swarm:
    settings: ParticleSwarm
    count: int
    rng: np.random.Generator
    cycle: int = 0
    places: list[Floats] = field(default_factory=list)
    speeds: list[Floats] = field(default_factory=list)
    own: list[tuple[float, Floats]] = field(default_factory=list)  # each particle's best
    best: tuple[float, Floats] | None = None
    asked: list[Point] = field(default_factory=list)

    def ask(self) -> list[Point]:
        if not self.places:
            self.places = [np.array(drawn(self.count, self.rng)) for _ in range(self.settings.particles)]
            self.speeds = [self.settings.reach * self.rng.uniform(-1, 1, self.count) for _ in self.places]
            self.own = [(-np.inf, place) for place in self.places]
        else:
            self._fly()
        self.asked = [tuple(float(each) for each in place) for place in self.places]
        return self.asked

    def tell(self, points: Sequence[Point], scores: Sequence[float]) -> None:
        for number, (point, score) in enumerate(zip(points, scores, strict=True)):
            place = np.array(point)
            if self.best is None or score > self.best[0]:
                self.best = (score, place)
            is_own = number < len(self.asked) and self.asked[number] == point
            if is_own and score > self.own[number][0]:
                self.own[number] = (score, place)

    def _fly(self) -> None:
        told = self.settings
        self.cycle += 1
        first, last = told.inertia
        inertia = first + (last - first) * min(self.cycle / told.cycles, 1.0)
        for number, (place, speed) in enumerate(zip(self.places, self.speeds, strict=True)):
            towards_own, towards_best = self.rng.random(self.count), self.rng.random(self.count)
            best = self.best[1] if self.best is not None else place
            speed = told.constriction * (
                inertia * speed
                + told.pull * towards_own * (self.own[number][1] - place)
                + told.pull * towards_best * (best - place)
            )
            if told.moving:
                still = np.ones(self.count, dtype=bool)
                still[self.rng.permutation(self.count)[: told.moving]] = False
                speed[still] = 0.0
            self.speeds[number] = np.clip(speed, -told.reach, told.reach)
            self.places[number] = np.clip(place + self.speeds[number], 0.0, 1.0)
