"""In which steps a group may shrink, so that kept lengths of weight axes come out as multiples.

A vendor's "multiple of 8" is about the length of an axis, not about a group: a unit may own several positions (a pair
of rotary dims, one row per gate), and an axis may be a product of groups (heads x dims), of which one factor that
divides is enough. The group with most units carries what is asked, the others what is left of it.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from math import gcd, lcm, prod

import numpy as np

from graphrewrite.dims import Groups
from graphrewrite.dims.labels import Ints


@dataclass(frozen=True)
class _Block:
    """Positions of an axis that carry one unit of each of these groups: `repeats` of every combination."""

    groups: tuple[int, ...]
    repeats: int


def steps(found: Groups, multiple: int, untouched: Set[str] = frozenset()) -> dict[str, int]:
    """Return group name -> step: what it keeps, if not everything, is a multiple of it.

    Axes of which every group is cut in its steps, or a part of them that Concat or Split treats as one, have lengths
    that are multiples of `multiple`; a part shorter than that stays whole. Groups in `untouched` keep all units.
    """
    result = {group.name: 1 for group in found}
    if multiple == 1:
        return result
    of_group: dict[int, list[_Block]] = {number: [] for number in range(len(found))}
    for block in _blocks(found):
        for number in block.groups:
            of_group[number].append(block)
    divisor: dict[int, int] = {}  # of every count that a settled group may keep
    for number, group in enumerate(found):
        if group.name in untouched:
            divisor[number] = group.units
    for number in sorted(of_group, key=lambda n: -found.groups[n].units):
        group = found.groups[number]
        if group.name in untouched:
            continue
        step = 1
        for block in of_group[number]:
            known = block.repeats * prod(divisor.get(other, 1) for other in block.groups if other != number)
            step = lcm(step, multiple // gcd(multiple, known))
        result[group.name] = step
        divisor[number] = group.units if group.units <= step else gcd(group.units, step)
    return result


def _blocks(found: Groups) -> Iterator[_Block]:
    """Yield the blocks of all weight axes, each kind once."""
    structure = found.structure
    family_of = np.full(len(structure.units) + 1, -1, dtype=np.int64)
    for number, group in enumerate(found):
        family_of[group.unit_ids] = number
    axes = {structure.axis_id(member.use.axes[member.axis]) for group in found for member in group.members}
    seen: set[_Block] = set()
    for axis in sorted(axes):
        units = _units_of(found, structure.rows(axis))  # [positions, labels], -1 where there is none
        families = np.sort(family_of[units], axis=1)
        kinds, kind_of = np.unique(families, axis=0, return_inverse=True)
        for kind, row in enumerate(kinds):
            there = units[kind_of.ravel() == kind]
            members = tuple(int(n) for n in np.unique(row[row >= 0]))
            if not members:
                continue
            counts = [len(np.unique(there[family_of[there] == n])) for n in members]
            regular = len(there) % prod(counts) == 0
            block = _Block(members, len(there) // prod(counts) if regular else 1)
            if block not in seen:
                seen.add(block)
                yield block


def _units_of(found: Groups, rows: Ints) -> Ints:
    units = found.structure.units
    place = np.minimum(np.searchsorted(units, rows), max(len(units) - 1, 0))
    return np.where(units[place] == rows, place, -1)
