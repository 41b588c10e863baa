"""Budgets: how much may stay. Each is a fraction of the original, counted with every coupled removal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from graphrewrite.dims import Groups
from graphrewrite.dims.structure import Mask, Terms
from graphrewrite.errors import BudgetError, InvalidConfig
from graphrewrite.passes.channels.selection import Choice, Limits, bisect_share, chunks
from graphrewrite.registry import Registry

Scores = npt.NDArray[np.float64]

# How often a budget aims lower when evening out grouped operators has put channels back.
_AIMS = 6


@dataclass(frozen=True)
class Problem:
    """What a budget chooses from.

    `fixed_macs` and `fixed_params` are the costs of what the analysis does not follow (bodies, unknown operators).
    `measure(dead)` returns the latency of the cut model relative to the original, measured now; `added_params(dead)`
    what a cut brings along: biases of readers that had none, private copies of what others share. Both cut for real.
    """

    groups: Groups
    scores: Sequence[Scores]
    limits: Limits
    scope: str
    fixed_macs: float
    fixed_params: float
    measure: Callable[[Mask], float]
    added_params: Callable[[Mask], float]

    def choice(self) -> Choice:
        """Return an empty choice."""
        return Choice(self.groups, self.scores, self.limits)

    def fair(self, choice: Choice) -> Mask:
        """Return the choice's mask, evened out where grouped operators must lose equally many in every group."""
        if not self.groups.analysis.balances:
            return choice.dead
        order = np.zeros(len(choice.dead))
        for group, score in zip(self.groups, self.scores, strict=True):
            order[group.unit_ids] = score
        floors = {group.name: group.units - sum(chunks(group, self.limits)) for group in self.groups}
        return self.groups.balanced(choice.dead, order, lambda group: floors[group.name], self.limits.step)

    def least_possible(self) -> Mask:
        """Return the mask with everything removed that may go."""
        return self.fair(self.choice().shortest())

    def below(
        self,
        terms: Terms,
        fixed: float,
        fraction: float,
        what: str,
        added: Callable[[Mask], float] | None = None,
    ) -> Mask:
        """Choose until a cost sum, with what the cut adds to it, is at most `fraction` of the original.

        Raises:
            BudgetError: even the smallest model is above it; the message says what can be reached.
        """
        structure = self.groups.structure
        whole = structure.total(terms, self.groups.none_dead()) + fixed
        if whole <= 0:
            raise BudgetError(
                f"the model has no {what} that can be counted, so a budget on them means nothing; use a ratio"
            )
        goal = fraction * whole * (1 + 1e-9) - fixed
        least, extra = self.least_possible(), 0.0
        for _ in range(_AIMS):
            if structure.total(terms, least) + extra > goal:
                break
            dead = self._within(terms, least, goal - extra, whole)
            more = added(dead) if added is not None and dead.any() else 0.0
            if structure.total(terms, dead) + more <= goal:
                return dead
            extra = max(more, extra + 1)
        reached = structure.total(terms, least) + (added(least) if added is not None and least.any() else 0.0)
        if reached <= goal:
            return least
        share = (reached + fixed) / whole
        raise BudgetError(
            f"the budget asks for {fraction:.3g} of the {what}, but at most {100 * (1 - share):.1f} % can be "
            f"removed here ({share:.3g} stays); ask for {_up(share)} or more, lower the floor or the multiple, "
            "or see which groups are pinned with: inspect --groups"
        )

    def _within(self, terms: Terms, least: Mask, goal: float, whole: float) -> Mask:
        """Choose until a cost sum is at most `goal`, which the choice `least` is known to meet."""
        structure = self.groups.structure

        def excess(dead: Mask) -> float:
            return structure.total(terms, dead) - goal

        if self.scope == "uniform":
            return self.fair(
                bisect_share(
                    lambda share: self.choice().share(share), lambda choice: excess(self.fair(choice)) <= 0
                )
            )

        def chosen(lower: float) -> Mask:
            return self.fair(self.choice().greedy(terms, lambda dead: excess(dead) + lower * whole))

        best = chosen(0.0)
        if excess(best) <= 0:
            return best
        # Evening out grouped operators put channels back: aim lower, as little as needed.
        best, low, high = least, 0.0, -excess(least) / whole
        for _ in range(_AIMS):
            middle = (low + high) / 2
            dead = chosen(middle)
            if excess(dead) <= 0:
                best, high = dead, middle
            else:
                low = middle
        return best


@runtime_checkable
class Budget(Protocol):
    """How much may stay."""

    def choose(self, problem: Problem) -> Mask:
        """Return the mask of removed units, [units]."""
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
        """Return the mask of removed units."""
        return problem.below(problem.groups.structure.macs, problem.fixed_macs, self.fraction, "MACs")


@budgets.register("params_below")
@dataclass(frozen=True)
class ParamsBelow:
    """Keep at most this fraction of the parameters."""

    fraction: float

    def __post_init__(self) -> None:
        check_fraction("ParamsBelow.fraction", self.fraction)

    def choose(self, problem: Problem) -> Mask:
        """Return the mask of removed units."""
        terms = problem.groups.structure.params
        return problem.below(terms, problem.fixed_params, self.fraction, "parameters", problem.added_params)


@budgets.register("ratio")
@dataclass(frozen=True)
class Ratio:
    """Let every group keep this fraction of its units."""

    fraction: float

    def __post_init__(self) -> None:
        check_fraction("Ratio.fraction", self.fraction)

    def choose(self, problem: Problem) -> Mask:
        """Return the mask of removed units."""
        return problem.fair(problem.choice().share(self.fraction))


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
        """Return the mask of removed units."""
        if self.fraction >= 1:  # the original takes that long, whatever a noisy clock says
            return problem.groups.none_dead()
        least = problem.least_possible()
        reached = problem.measure(least)
        if reached > self.fraction:
            raise BudgetError(
                f"the budget asks for {self.fraction:.3g} of the latency, but the smallest this can become takes "
                f"{reached:.3g}; ask for {_up(reached)} or more, or see which groups are pinned with: inspect --groups"
            )
        structure = problem.groups.structure
        floor = structure.total(structure.macs, least) / max(
            structure.total(structure.macs, problem.groups.none_dead()), 1.0
        )
        low, high, best = floor, 1.0, least
        for _ in range(self.steps):
            middle = (low + high) / 2
            dead = problem.below(structure.macs, 0.0, middle, "MACs")
            if problem.measure(dead) <= self.fraction:
                best, low = dead, middle
            else:
                high = middle
        return best


def _up(value: float) -> str:
    return f"{np.ceil(value * 1000) / 1000:.3f}"
