"""What a search wants: a quality that is to be large, costs that are to stay below limits, and who beats whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphrewrite.errors import InvalidConfig

QUALITIES = ("accuracy", "agreement", "signal")
COSTS = ("macs", "params", "bytes", "latency")


@dataclass(frozen=True)
class Goal:
    """A quality to make large under limits on costs.

    Attributes:
        quality: "accuracy" (share of labels hit), "agreement" (share of samples with the original's top score), or
            "signal" (signal to noise of the worst output, in decibels).
        below: cost -> the share of the original's that may stay.
        price: cost -> what a whole original's worth of it takes from the quality; weighs costs that have no limit.
        power: how sharply a quality falls beyond a limit (Zhang et al. 2021, YOCO-BERT, has 2).
    """

    quality: str = "accuracy"
    below: Mapping[str, float] = field(default_factory=dict)
    price: Mapping[str, float] = field(default_factory=dict)
    power: float = 2.0

    def __post_init__(self) -> None:
        if self.quality not in QUALITIES:
            raise InvalidConfig(f"Goal.quality is {self.quality!r}; expected one of {', '.join(QUALITIES)}")
        for name, costs in (("below", self.below), ("price", self.price)):
            for cost, share in costs.items():
                if cost not in COSTS or isinstance(share, bool) or not share > 0:
                    raise InvalidConfig(
                        f"Goal.{name} has {cost!r}: {share!r}; expected numbers above 0 for any of {', '.join(COSTS)}"
                    )
        if self.power <= 0:
            raise InvalidConfig(f"Goal.power is {self.power}; expected a number above 0")

    def is_met(self, found: Mapping[str, float]) -> bool:
        """Whether all limits hold."""
        return all(found[cost] <= share + 1e-12 for cost, share in self.below.items())

    def score(self, found: Mapping[str, float]) -> float:
        """Return how good a candidate is, larger = better.

        Beyond a limit the quality is scaled down, to nothing at the cost of the original; so a search is led back, and
        nothing that breaks a limit is better than the same quality within it.
        """
        value = found[self.quality]
        for cost, share in self.below.items():
            over = found[cost] - share
            if over > 0:
                left = max(0.0, 1 - over / max(1 - share, 1e-9)) ** self.power
                value = value * left if value > 0 else value - over
        return value - sum(price * found[cost] for cost, price in self.price.items())


def front(found: Sequence[Mapping[str, float]], quality: str, costs: Sequence[str]) -> list[int]:
    """Return which entries no other one beats (Pareto), best quality first.

    One beats another when it is nowhere worse and somewhere better: more quality, less of each cost. Of equal entries
    the first stays.
    """
    rows = [(entry[quality], *(-entry[cost] for cost in costs)) for entry in found]
    kept = [
        number
        for number, row in enumerate(rows)
        if row not in rows[:number] and not any(other != row and _covers(other, row) for other in rows)
    ]
    return sorted(kept, key=lambda number: (-found[number][quality], number))


def _covers(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True))
