"""Budgets: how much may stay. Each is a fraction of the original, counted with every coupled removal.

A budget knows nothing of what is removed: channels, whole blocks. It talks to a `Problem`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import BudgetError, InvalidConfig
from graphrewrite.passes.patterns import matching
from graphrewrite.registry import Registry

Mask: TypeAlias = npt.NDArray[np.bool_]
Cost: TypeAlias = Literal["MACs", "parameters"]


@runtime_checkable
class Problem(Protocol):
    """What a budget chooses from: candidates by position in a mask, where True means removed."""

    def nothing(self) -> Mask:
        """Return the mask with nothing removed."""
        ...

    def least_possible(self) -> Mask:
        """Return the mask with everything removed that may go."""
        ...

    def families(self) -> Sequence[str]:
        """Return the names of the families of candidates: groups of channels, streams of blocks."""
        ...

    def share(self, kept: float, named: Mapping[str, float] | None = None) -> Mask:
        """Return the mask in which every family keeps this share of its candidates, rounded up; some one of their own.

        `named` maps families to shares that differ from `kept`.
        """
        ...

    def below(self, cost: Cost, fraction: float) -> Mask:
        """Choose until at most `fraction` of the original cost stays.

        Raises:
            BudgetError: even the smallest model is above it; the message says what can be reached.
        """
        ...

    def left(self, cost: Cost, dead: Mask) -> float:
        """Return the share of the original cost that stays."""
        ...

    def measure(self, dead: Mask) -> float:
        """Return the latency of the rewritten model relative to the original, measured now."""
        ...


@runtime_checkable
class Budget(Protocol):
    """How much may stay."""

    def choose(self, problem: Problem) -> Mask:
        """Return the mask of removed candidates."""
        ...


budgets: Registry[Budget] = Registry("budget", package=__name__, of=Budget)


def check_fraction(name: str, value: float) -> None:
    """Raise InvalidConfig unless a fraction lies in (0, 1]."""
    if isinstance(value, bool) or not 0 < value <= 1:
        raise InvalidConfig(
            f"{name} is {value!r}; expected the fraction of the original to keep, above 0 and at most 1, such as 0.5"
        )


@budgets.register("macs_below")
@dataclass(frozen=True)
class MacsBelow:
    """Keep at most this fraction of the multiply-accumulates."""

    fraction: float

    def __post_init__(self) -> None:
        check_fraction("MacsBelow.fraction", self.fraction)

    def choose(self, problem: Problem) -> Mask:
        """Return the mask of removed candidates."""
        return problem.below("MACs", self.fraction)


@budgets.register("params_below")
@dataclass(frozen=True)
class ParamsBelow:
    """Keep at most this fraction of the parameters."""

    fraction: float

    def __post_init__(self) -> None:
        check_fraction("ParamsBelow.fraction", self.fraction)

    def choose(self, problem: Problem) -> Mask:
        """Return the mask of removed candidates."""
        return problem.below("parameters", self.fraction)


@budgets.register("ratio")
@dataclass(frozen=True)
class Ratio:
    """Let every group keep this fraction of its units, or every stream this fraction of its blocks."""

    fraction: float

    def __post_init__(self) -> None:
        check_fraction("Ratio.fraction", self.fraction)

    def choose(self, problem: Problem) -> Mask:
        """Return the mask of removed candidates."""
        return problem.share(self.fraction)


@budgets.register("widths")
@dataclass(frozen=True)
class Widths:
    """Let each group keep a share of its own: what a search over widths fills in.

    `shares` maps groups to the fraction of their units that they keep, or streams to that of their blocks, by name or
    by a pattern (`*` is any text; of several that fit the last holds); all others keep `fraction`.
    """

    fraction: float = 1.0
    shares: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fraction("Widths.fraction", self.fraction)
        for name, share in self.shares.items():
            check_fraction(f"Widths.shares[{name!r}]", share)

    def choose(self, problem: Problem) -> Mask:
        """Return the mask of removed candidates.

        Raises:
            InvalidConfig: a name fits no group.
        """
        families = problem.families()
        named: dict[str, float] = {}
        for pattern, share in self.shares.items():
            fitting = matching(pattern, families)
            if not fitting:
                raise InvalidConfig(
                    f"Widths.shares names {pattern!r}, and no group is called so; there are "
                    f"{', '.join(families[:6]) or 'none'}{', ...' if len(families) > 6 else ''}; see them with: "
                    "inspect --groups"
                )
            named.update(dict.fromkeys(fitting, share))
        return problem.share(self.fraction, named)


@budgets.register("latency_below")
@dataclass(frozen=True)
class LatencyBelow:
    """Keep at most this fraction of the latency, measured in onnxruntime on this machine.

    Candidates are cut for real and timed against the original, interleaved; the search halves the range of MACs
    `steps` times. Timing is noisy, so the choice may differ between runs.
    """

    fraction: float
    steps: int = 6

    def __post_init__(self) -> None:
        check_fraction("LatencyBelow.fraction", self.fraction)
        if self.steps < 1:
            raise InvalidConfig(
                f"LatencyBelow.steps is {self.steps}; expected at least one measurement, such as 6"
            )

    def choose(self, problem: Problem) -> Mask:
        """Return the mask of removed candidates."""
        if self.fraction >= 1:  # the original takes that long, whatever a noisy clock says
            return problem.nothing()
        least = problem.least_possible()
        reached = problem.measure(least)
        if reached > self.fraction:
            raise BudgetError(
                f"the budget asks for {self.fraction:.3g} of the latency, but the smallest this can become takes "
                f"{reached:.3g}; ask for {rounded_up(reached)} or more, "
                "or see which groups are pinned with: inspect --groups"
            )
        low, high, best = problem.left("MACs", least), 1.0, least
        for _ in range(self.steps):
            middle = (low + high) / 2
            dead = problem.below("MACs", middle)
            if problem.measure(dead) <= self.fraction:
                best, low = dead, middle
            else:
                high = middle
        return best


def rounded_up(value: float) -> str:
    """Write a share with three digits, never below what it is: asking for that much is granted."""
    return f"{np.ceil(value * 1000) / 1000:.3f}"
