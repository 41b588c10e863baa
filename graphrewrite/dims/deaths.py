"""Which groups of equal counts die altogether.

Groups that live keep equally many members, at least one, so thinning alone cannot take a group away that is of no use.
A group dies when nothing of it is wished to stay, or when more groups have wishes than members may stay: a unit in each
would be more than was wished for. Who dies is settled before members are counted, which keeps the counting linear.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphrewrite.dims.labels import Ints
from graphrewrite.dims.structure import Mask, Structure


@dataclass(frozen=True, eq=False)
class Table:
    """A balance as unit ids [groups, members], -1 where a position is pinned; `node` as in `Balance`."""

    units: Ints
    node: int

    @property
    def together(self) -> tuple[int, int]:
        """What those have in common whose groups die together."""
        return self.node, len(self.units)


def tables(structure: Structure) -> list[Table]:
    """Return the balances of an analysis, each pair of units and node once.

    Those that are pinned altogether count too: with them nothing dies that has to die on all sides.
    """
    result: list[Table] = []
    known: set[tuple[int, int, bytes]] = set()
    for balance in structure.analysis.balances:
        number = structure.axis_id(balance.axis)
        if number < 0 or not len(structure.units):
            continue
        labels = structure.rows(number)[:, 0]
        ids = np.minimum(np.searchsorted(structure.units, labels), len(structure.units) - 1)
        units = np.where(structure.units[ids] == labels, ids, -1)
        table = Table(units.reshape(balance.groups, -1), balance.node)
        key = balance.node, balance.groups, units.tobytes()
        if key not in known:
            known.add(key)
            result.append(table)
    return result


def dying(balances: Sequence[Table], dead: Mask) -> Mask | None:
    """Return a mask [units] of the groups that die when `dead` is wished for, None where none can or should.

    A group takes with it all that belongs to it in every balance; what that leaves empty elsewhere dies too, where it
    may. Each operator keeps a group.
    """
    gone = np.zeros(len(dead) + 1, dtype=bool)  # the last entry stands for what is pinned
    mates: dict[tuple[int, int], list[Ints]] = {}
    for table in balances:
        if table.node >= 0:
            mates.setdefault(table.together, []).append(table.units)
    wished = np.append(dead, False)
    for sides in mates.values():
        for row in _unwanted(sides, wished):
            for side in sides:
                gone[side[row]] = True
    if not gone.any():
        return None
    before = -1
    while int(gone.sum()) > before:
        before = int(gone.sum())
        emptied = _emptied(balances, mates, gone)
        if emptied is None:
            return None
        for units in emptied:
            gone[units] = True
    if gone[-1] or any(gone[side].all() for sides in mates.values() for side in sides):
        return None
    return gone[:-1]


def _unwanted(sides: Sequence[Ints], wished: Mask) -> Ints:
    """Return the groups of one operator that die: those without a wish, then those too many with the fewest."""
    alive = np.stack([(~wished[side]).sum(axis=1) for side in sides])  # [balances, groups]
    share = np.sum([a / side.shape[1] for a, side in zip(alive, sides, strict=True)], axis=0)
    may_live = max(1, int(alive.sum(axis=1).min()))
    lives = min(may_live, int((share > 0).sum()) or 1)
    order = np.argsort(-share, kind="stable")
    last = order[lives:]
    pinned = np.any([(side < 0).any(axis=1) for side in sides], axis=0)
    return np.asarray(last[~pinned[last]])


def _emptied(
    balances: Sequence[Table], mates: dict[tuple[int, int], list[Ints]], gone: Mask
) -> list[Ints] | None:
    """Return the units of groups that have lost all in one balance; None where one of them has to live."""
    result: list[Ints] = []
    for table in balances:
        for row in np.flatnonzero(gone[table.units].all(axis=1)):
            if table.node < 0:
                return None
            result.extend(side[row] for side in mates[table.together])
    return result


__all__ = ["Table", "dying", "tables"]
