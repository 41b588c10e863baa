"""Which groups stay whole because a pattern names them, or something they pass through."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from graphrewrite.dims import Groups
from graphrewrite.dims.axes import Axis, Digit, Rows
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.patterns import matching


class Skipped(NamedTuple):
    """Group name -> why it stays whole, and patterns that name only what could not be cut anyway."""

    groups: dict[str, str]
    idle: tuple[str, ...]


def skipped(found: Groups, patterns: Sequence[str]) -> Skipped:
    """Return the groups that patterns name: directly, by a weight or activation they lie on, or by a node.

    A node stands for the weights it reads and the tensors it makes. In a pattern `*` stands for any text; all else,
    brackets too, stands for itself.

    Raises:
        InvalidConfig: a pattern names nothing in the model.
    """
    if not patterns:
        return Skipped({}, ())
    places = Places(found)
    groups: dict[str, str] = {}
    idle = []
    for pattern in patterns:
        names = matching(pattern, places.names)
        if not names:
            raise InvalidConfig(
                f"the skip pattern {pattern!r} names no tensor, node or group of this model; "
                "see the names with: inspect --groups"
            )
        numbers = {number for name in names for number in places.groups_at(name)}
        for number in sorted(numbers):
            groups.setdefault(found.groups[number].name, f"named by the skip pattern {pattern!r}")
        if not numbers:
            idle.append(pattern)
    return Skipped(groups, tuple(idle))


class Places:
    """Finds the groups at a name: of a group, a weight, an activation or a node."""

    def __init__(self, found: Groups) -> None:
        self.found = found
        self._nodes: dict[str, list[int]] = {}
        for index, node in enumerate(found.analysis.nodes):
            self._nodes.setdefault(node.name, []).append(index)
        self._direct: dict[str, set[int]] = {}
        for number, group in enumerate(found):
            self._direct.setdefault(group.name, set()).add(number)
            for member in group.members:
                self._direct.setdefault(member.tensor, set()).add(number)
                for node, _ in member.use.sites:
                    name = found.analysis.nodes[node].name
                    self._direct.setdefault(name, set()).add(number)
        weights = {use.name for use in found.analysis.weights.values()}
        self.names = sorted({*self._direct, *weights, *self._nodes, *found.analysis.env} - {""})
        units = found.structure.units
        self._family = np.full(len(units), -1, dtype=np.int64)
        for number, group in enumerate(found):
            self._family[group.unit_ids] = number

    def groups_at(self, name: str) -> set[int]:
        """Return the numbers of the groups at a name."""
        numbers = set(self._direct.get(name, ()))
        tensors = [name]
        for index in self._nodes.get(name, ()):
            tensors += [tensor.name for tensor in self.found.analysis.nodes[index].outputs]
        for tensor in tensors:
            for axis in self.found.analysis.env.get(tensor) or ():
                numbers.update(self.groups_on(axis))
        return numbers

    def groups_on(self, axis: Axis) -> Iterator[int]:
        """Yield the numbers of the groups whose units lie on an axis."""
        units = self.found.structure.units
        for factor in axis.factors:
            held = factor.labels if isinstance(factor, Rows) else None
            held = factor.joint.labels if isinstance(factor, Digit) else held
            if held is None or not len(units):
                continue
            labels = np.unique(self.found.analysis.labels.resolve(held))
            place = np.minimum(np.searchsorted(units, labels), len(units) - 1)
            families = self._family[place[units[place] == labels]]
            yield from (int(number) for number in np.unique(families) if number >= 0)
