"""How the learning rate runs over a stage: a factor of the stage's rate, by the share of the stage that is done."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from graphrewrite.errors import InvalidConfig
from graphrewrite.registry import Registry


@runtime_checkable
class Schedule(Protocol):
    """A course of the rate; it knows no steps, so that it means the same for any amount of data."""

    def factor(self, done: float) -> float:
        """Return what the rate is multiplied with when the share `done`, from 0 to 1, lies behind."""
        ...


schedules: Registry[Schedule] = Registry("schedule", package=__name__, of=Schedule)


@schedules.register("constant")
@dataclass(frozen=True)
class Constant:
    """The same rate all along."""

    def factor(self, done: float) -> float:
        """Return 1."""
        return 1.0


@schedules.register("cosine")
@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 down to `floor` (Loshchilov & Hutter 2017, without restarts)."""

    floor: float = 0.0

    def __post_init__(self) -> None:
        _check_floor("Cosine", self.floor)

    def factor(self, done: float) -> float:
        """Return the cosine's value."""
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2


@schedules.register("linear")
@dataclass(frozen=True)
class Linear:
    """A straight line from 1 down to `floor`."""

    floor: float = 0.0

    def __post_init__(self) -> None:
        _check_floor("Linear", self.floor)

    def factor(self, done: float) -> float:
        """Return the line's value."""
        return 1 - (1 - self.floor) * done


@schedules.register("steps")
@dataclass(frozen=True)
class Steps:
    """A drop by `drop` at each of the shares `at` of the stage."""

    at: tuple[float, ...] = (0.5, 0.75)
    drop: float = 0.1

    def __post_init__(self) -> None:
        if not all(0 < share < 1 for share in self.at) or self.drop <= 0:
            raise InvalidConfig(
                f"Steps(at={self.at}, drop={self.drop}) makes no course; expected shares between 0 and 1 and a "
                "positive factor; name the places as parts of the stage, such as (0.5, 0.75)"
            )

    def factor(self, done: float) -> float:
        """Return the drop, to the power of the places passed."""
        return float(self.drop ** sum(done >= share for share in self.at))


def _check_floor(name: str, floor: float) -> None:
    if not 0 <= floor <= 1:
        raise InvalidConfig(f"{name}.floor is {floor}; it is a share of the rate, from 0 to 1; correct it")
