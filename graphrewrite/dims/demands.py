"""What operators ask of groups beside ties: equal counts, and statistics over all that is left."""

from collections.abc import Callable, Iterator

import numpy as np

from graphrewrite.dims.axes import Axis
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.record import Analysis

_STATISTICS = frozenset({"moments", "mean_square", "group_moments", "softmax", "batch_statistics"})

Demand = tuple[int, int, str, tuple[int, ...]]  # group, node, "balances" or "statistics", (parts,) or nothing


def demands(analysis: Analysis, groups_on: Callable[[Axis], set[int]]) -> Iterator[Demand]:
    """Yield the demands of nodes: equal counts first, then statistics; `groups_on` looks up the groups on an axis."""
    kept = {id(balance) for balance in analysis.balances}
    for choice in analysis.open:
        if choice.balances and all(id(balance) in kept for balance in choice.balances):
            for number in set().union(*(groups_on(balance.axis) for balance in choice.balances)):
                yield number, choice.node, "balances", (choice.balances[0].groups,)
    for mix in analysis.mixes:
        if mix.kind in _STATISTICS:
            members = () if mix.members is None else (mix.members.axis,)
            parts = () if mix.members is None else (mix.members.groups,)
            for number in set().union(*(groups_on(axis) for axis in (*mix.axes.values(), *members))):
                yield number, mix.node, "statistics", parts


def units_at_a_time(analysis: Analysis, buckets: Ints, groups: int) -> dict[int, int]:
    """Return how many units of a group go at a time; `buckets` [labels] are the numbers of their groups, of so many.

    A unit that sits in one row of a balance takes one of every other row with it.
    """
    steps: dict[int, int] = {}
    for balance in analysis.balances:
        rows = analysis.rows(balance.axis)[:, 0].reshape(balance.groups, -1)
        mine = buckets[rows]
        for number in np.unique(mine[(mine >= 0) & (mine < groups)]):
            units = [frozenset(row[mask]) for row, mask in zip(rows, mine == number, strict=True)]
            different = len(set(units) - {frozenset()})
            steps[int(number)] = max(steps.get(int(number), 1), different)
    return steps
