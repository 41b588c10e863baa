"""Channel groups as a budget sees them: exact costs of every choice of units, and choices that meet a goal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from graphrewrite.dims import Groups
from graphrewrite.dims.structure import Mask, Terms
from graphrewrite.errors import BudgetError
from graphrewrite.passes.channels.budgets import Cost, rounded_up
from graphrewrite.passes.channels.selection import Choice, Limits, bisect_share, chunks

Scores = npt.NDArray[np.float64]

# How often a budget aims lower when evening out grouped operators has put channels back.
_AIMS = 6


@dataclass(frozen=True)
class ChannelProblem:
    """Units of channel groups, as a budget sees them.

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

    def nothing(self) -> Mask:
        """Return the mask with nothing removed."""
        return self.groups.none_dead()

    def families(self) -> list[str]:
        """Return the names of the groups."""
        return [group.name for group in self.groups]

    def share(self, kept: float, named: Mapping[str, float] | None = None) -> Mask:
        """Return the mask in which every group keeps a share of its units, rounded up to its granularity.

        It is `kept`, but for the groups in `named`.
        """
        return self.fair(self.choice().share(kept, named))

    def left(self, cost: Cost, dead: Mask) -> float:
        """Return the share of the original cost that stays; what a cut adds is not counted."""
        terms, fixed = self._terms(cost)
        structure = self.groups.structure
        whole = structure.total(terms, self.nothing()) + fixed
        return (structure.total(terms, dead) + fixed) / max(whole, 1.0)

    @cached_property
    def _empty(self) -> Choice:
        return Choice(self.groups, self.scores, self.limits)

    def choice(self) -> Choice:
        """Return an empty choice."""
        return self._empty.again()

    def fair(self, choice: Choice, measure: Callable[[Mask], float] | None = None) -> Mask:
        """Return the choice's mask, evened out where grouped operators must lose equally many in every group.

        `measure` as in `Groups.balanced`.
        """
        if not self.groups.analysis.balances:
            return choice.dead
        order = np.zeros(len(choice.dead))
        for group, score in zip(self.groups, self.scores, strict=True):
            order[group.unit_ids] = score
        floors = {group.name: group.units - sum(chunks(group, self.limits)) for group in self.groups}
        return self.groups.balanced(
            choice.dead, order, lambda group: floors[group.name], self.limits.step, measure
        )

    def least_possible(self) -> Mask:
        """Return the mask with everything removed that may go."""
        return self._least(self.groups.structure.macs)

    def _least(self, terms: Terms) -> Mask:
        """Return the mask with everything removed that may go; where groups can do so in two ways, the cheaper."""
        return self.fair(self.choice().shortest(), lambda dead: self.groups.structure.total(terms, dead))

    def below(self, cost: Cost, fraction: float) -> Mask:
        """Choose until a cost, with what the cut adds to it, is at most `fraction` of the original.

        Raises:
            BudgetError: even the smallest model is above it; the message says what can be reached.
        """
        structure = self.groups.structure
        terms, fixed = self._terms(cost)
        added = self.added_params if cost == "parameters" else None
        whole = structure.total(terms, self.nothing()) + fixed
        if whole <= 0:
            raise BudgetError(
                f"the model has no {cost} that can be counted, so a budget on them means nothing; use a ratio"
            )
        goal = fraction * whole * (1 + 1e-9) - fixed
        least, extra = self._least(terms), 0.0
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
            f"the budget asks for {fraction:.3g} of the {cost}, but at most {100 * (1 - share):.1f} % can be "
            f"removed here ({share:.3g} stays); ask for {rounded_up(share)} or more, lower the floor or the multiple, "
            "or see which groups are pinned with: inspect --groups"
        )

    def _terms(self, cost: Cost) -> tuple[Terms, float]:
        structure = self.groups.structure
        return (structure.macs, self.fixed_macs) if cost == "MACs" else (structure.params, self.fixed_params)

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
