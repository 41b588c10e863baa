"""Why the groups of a model are what they are: members, ties, savings, pins, and the way channels take through the net.

Everything here is data: names, numbers and short texts, for a screen, a page or a drawing. It costs a sweep of its own
(labels that keep a record, `history.py`), so nothing but an explanation pays for it.
"""

import difflib
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from graphrewrite.errors import UnknownNameError


@dataclass(frozen=True)
class Place:
    """An axis of a tensor that carries a group: `positions` of its `length` belong to one unit."""

    tensor: str
    axis: int
    positions: int
    length: int


@dataclass(frozen=True)
class Weight:
    """A weight axis of a group, as in `Place`; `role` is producer, consumer or vector, `layers` are its readers."""

    tensor: str
    axis: int
    role: str
    positions: int
    length: int
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Tie:
    """A node that makes positions live and die together, or asks something else of a group.

    `kind` is "joins" (it brings together what `sides` names: layers that were apart before), "splits" (it sees an axis
    of the layers in `sides` as several, `dims`), "repeats" (it ties positions of one axis with each other), "balances"
    (every one of `dims[0]` groups keeps equally many) or "statistics" (its result depends on every unit that is left).
    `text` says it in words.
    """

    node: int
    op: str
    name: str
    kind: str
    sides: tuple[tuple[str, ...], ...]
    dims: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Explained:
    """One group: what it is, what ties it, and what it saves. MACs are for one sample.

    `label` is the layer that makes the channels, `kind` what the units are (`kinds.py`). At least `floor` units stay,
    and they go `step` at a time.
    `macs_share` and `params_share` are of one unit, 0..1. `macs_through` are the MACs of all products with a side of
    this group: the most that is at stake.
    """

    name: str
    label: str
    kind: str
    units: int
    floor: int
    step: int
    macs_per_unit: int
    params_per_unit: int
    macs_share: float
    params_share: float
    macs_through: int
    members: tuple[Weight, ...]
    activations: tuple[Place, ...]
    ties: tuple[Tie, ...]

    def of_role(self, role: str) -> tuple[Weight, ...]:
        """Return the weight axes of one role."""
        return tuple(weight for weight in self.members if weight.role == role)


@dataclass(frozen=True)
class Pin:
    """A weight axis of which `positions` stay for ever.

    `chain` lists the nodes that tie it to what cannot shrink, nearest first; empty when `reason` is about its own node.
    """

    tensor: str
    axis: int
    positions: int
    length: int
    reason: str
    layers: tuple[str, ...]
    chain: tuple[str, ...]


@dataclass(frozen=True)
class Obstacle:
    """Everything pinned for one reason; `macs` is what the layers with such an axis cost: the most it holds back."""

    reason: str
    pins: tuple[Pin, ...]
    macs: int


@dataclass(frozen=True)
class Station:
    """A place worth drawing: `kind` is layer, join, input or output; `node` is -1 for the last two.

    `macs` of which `fixed` have no side that can shrink. `made`, `read` and `passed` are names of groups.
    """

    number: int
    node: int
    op: str
    label: str
    kind: str
    macs: int
    fixed: int
    made: tuple[str, ...]
    read: tuple[str, ...]
    passed: tuple[str, ...]


@dataclass(frozen=True)
class Flow:
    """An activation between two stations: its axis with `group` has `length` positions; "" where none can shrink."""

    source: int
    target: int
    group: str
    length: int


@dataclass(frozen=True)
class Explanation:
    """All groups of a model with their reasons; `fixed` MACs have no side that can shrink.

    `least` are the MACs left when every group keeps a single unit. `refused` maps operators without a rule (or with
    one that gave up) to their nodes.
    """

    groups: tuple[Explained, ...]
    obstacles: tuple[Obstacle, ...]
    stations: tuple[Station, ...]
    flows: tuple[Flow, ...]
    macs: int
    params: int
    fixed: int
    least: int
    refused: dict[str, tuple[str, ...]]

    def __iter__(self) -> Iterator[Explained]:
        return iter(self.groups)

    @property
    def pinned(self) -> dict[str, str]:
        """The pins as "tensor[axis]" -> reason."""
        return {_place(pin): item.reason for item in self.obstacles for pin in item.pins}

    def find(self, name: str) -> Explained:
        """Return the group of this name, or the only one whose label or member it is.

        Raises:
            UnknownNameError: no group has it; the message lists the nearest names.
        """
        for group in self.groups:
            if name == group.name:
                return group
        members = [
            group
            for group in self.groups
            if name == group.label
            or any(name in (weight.tensor, f"{weight.tensor}[{weight.axis}]") for weight in group.members)
        ]
        if len(members) == 1:
            return members[0]
        if members:
            names = ", ".join(repr(group.name) for group in members[:5])
            raise UnknownNameError(
                f"{name!r} belongs to {len(members)} groups; expected the name of one; they are {names}"
            )
        known = {text: group.name for group in self.groups for text in (group.label, group.name)}
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or list(known)[:3]
        nearest = ", ".join(dict.fromkeys(repr(known[text]) for text in close))
        hint = f"the nearest are {nearest}" if known else "the model has none that can shrink"
        raise UnknownNameError(
            f"there is no group called {name!r}; expected the name of a group, as inspect --groups lists them; {hint}"
        )

    def to_json(self) -> dict[str, object]:
        """Return everything as plain JSON."""
        return {**asdict(self), "pinned": self.pinned, "no_rule": dict(self.refused)}


def _place(pin: Pin) -> str:
    share = "" if pin.positions == pin.length else f" ({pin.positions} of {pin.length} positions)"
    return f"{pin.tensor}[{pin.axis}]{share}"
