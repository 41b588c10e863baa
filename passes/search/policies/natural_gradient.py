"""A distribution over the values of every field, moved along its natural gradient towards what did well."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.search.policies import policies
from graphrewrite.passes.search.policies.random import check_counts
from graphrewrite.passes.search.space import Point

Floats = npt.NDArray[np.float64]


@policies.register("natural_gradient")
@dataclass(frozen=True)
class NaturalGradient:
    """Independent categorical distributions, one for each field, under stochastic natural gradient ascent.

    (Akimoto et al. 2019; Zhang et al. 2021, YOCO-BERT.)

    Args:
        samples: points drawn for a step.
        step: length of a step, measured by Fisher's information.
        share: of the samples that pull, and as many that push away.
        levels: values that a span without steps is cut into.

    No probability falls below 1 / (fields (values - 1)), so everything can come back. Two samples a step is the papers'
    number; more of them are steadier, and may be tried at the same time.
    """

    samples: int = 2
    step: float = 1.0
    share: float = 0.25
    levels: int = 8

    def __post_init__(self) -> None:
        check_counts("NaturalGradient", samples=self.samples - 1, levels=self.levels - 1)
        if self.step <= 0 or not 0 < self.share <= 0.5:
            raise InvalidConfig(
                f"NaturalGradient has the step {self.step} and the share {self.share}; expected a step above 0, and a "
                "share above 0 and at most 0.5"
            )

    def start(self, sizes: Sequence[int | None], rng: np.random.Generator) -> "Distributions":
        """Begin a run, with all values as probable."""
        counts = [self.levels if size is None else size for size in sizes]
        return Distributions(self, rng, [np.full(count, 1 / count) for count in counts])


@dataclass
class Distributions:
    """The state of a run.

    Attributes:
        odds: for each field the probabilities of its values, [values].
    """

    settings: NaturalGradient
    rng: np.random.Generator
    odds: list[Floats]
    drawn: list[tuple[Point, list[int]]] = field(default_factory=list)

    def ask(self) -> list[Point]:
        """Draw the points of a step."""
        self.drawn = []
        for _ in range(self.settings.samples):
            chosen = [int(self.rng.choice(len(each), p=each)) for each in self.odds]
            self.drawn.append((self._point(chosen), chosen))
        return [point for point, _ in self.drawn]

    def tell(self, points: Sequence[Point], scores: Sequence[float]) -> None:
        """Take the step that the drawn points' scores ask for; what was not drawn teaches nothing."""
        known = dict(self.drawn)
        told = [(known[point], score) for point, score in zip(points, scores, strict=True) if point in known]
        worth = utilities([score for _, score in told], self.settings.share)
        if not worth.any():
            return
        moves = [np.zeros(len(each)) for each in self.odds]
        for (chosen, _), weight in zip(told, worth, strict=True):
            for move, odds, value in zip(moves, self.odds, chosen, strict=True):
                move -= weight * odds / len(told)
                move[value] += weight / len(told)
        length = fisher_length(moves, self.odds)
        if not length:
            return
        several = sum(len(each) > 1 for each in self.odds)
        for number, move in enumerate(moves):
            if len(move) > 1:
                self.odds[number] = floored(self.odds[number] + self.settings.step / length * move, several)

    def mode(self) -> Point:
        """Return the most probable value of every field."""
        return self._point([int(each.argmax()) for each in self.odds])

    def _point(self, chosen: Sequence[int]) -> Point:
        return tuple((value + 0.5) / len(each) for value, each in zip(chosen, self.odds, strict=True))


def utilities(scores: Sequence[float], share: float) -> Floats:
    """Return the weight of each sample: the best pull, as many of the worst push, ties share; they sum to 0."""
    count = len(scores)
    chosen = ceil(share * count)
    ranked = np.zeros(count)
    ranked[:chosen] += 1 / chosen if count else 0.0
    ranked[count - chosen :] -= 1 / chosen if count else 0.0
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    worth = np.zeros(count)
    worth[order] = ranked
    for value in np.unique(values):
        same = values == value
        worth[same] = worth[same].mean()
    return worth


def fisher_length(moves: Sequence[Floats], odds: Sequence[Floats]) -> float:
    """Return the length of a change of probabilities under Fisher's information."""
    return sqrt(sum(float((move**2 / each).sum()) for move, each in zip(moves, odds, strict=True)))


def floored(odds: Floats, fields: int) -> Floats:
    """Return probabilities [values] that sum to 1, none of them below 1 / (fields (values - 1)).

    What is above the floor is scaled so that the sum is 1 again. Of very few fields that floor would be more than there
    is to share, so it is never more than half of an even share.
    """
    least = min(1 / (fields * (len(odds) - 1)), 0.5 / len(odds))
    above = np.maximum(odds, least) - least
    return np.asarray(least + above * ((1 - least * len(odds)) / above.sum()))
