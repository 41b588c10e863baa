"""Channel groups: units that are alike, with what they belong to and why others are pinned."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from math import gcd

import numpy as np
import numpy.typing as npt

from graphrewrite.dims.balance import balance_units
from graphrewrite.dims.kinds import kinds
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.places import least_of
from graphrewrite.dims.structure import Floats, Mask, Structure
from graphrewrite.dims.sweep import Analysis, WeightUse, analyse
from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.ir.shapes import ShapeInfo


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """One weight axis of a group: unit u owns the positions `index[u]` of axis `axis` of tensor `tensor`.

    `role` is "producer" (the axis makes the channels), "consumer" (the axis is summed over) or "vector" (bias, scale).
    """

    tensor: str
    axis: int
    index: Ints  # [units, positions per unit]
    role: str
    use: WeightUse


@dataclass(frozen=True, eq=False, slots=True)
class Tap:
    """An activation that carries a group's channels where they are summed over: unit u is `index[u]` of axis `axis`."""

    tensor: str
    axis: int
    index: Ints  # [units, positions per unit]


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Units with the same memberships; any of them may go as long as `least` stay.

    `multiplicity` divides what every weight axis loses with one unit; `unit_ids` are positions in `Structure.units`;
    `kind` says what the units are (see `graphrewrite.dims.kinds`).
    """

    name: str
    unit_ids: Ints
    members: tuple[Member, ...]
    taps: tuple[Tap, ...]
    macs_per_unit: float
    params_per_unit: float
    multiplicity: int
    kind: str = "other"
    least: int = 1

    @property
    def units(self) -> int:
        """How many units there are."""
        return len(self.unit_ids)

    def reduce(
        self,
        weights: Callable[[Member], Floats],
        measure: Callable[[Floats], Floats],
        into: Callable[[Floats, Floats], Floats] | None = None,
        roles: tuple[str, ...] = ("producer",),
    ) -> Floats:
        """Return one number per unit, [units], from the weights of the members of these roles.

        `weights(member)` is [units, numbers of the unit]; `measure` makes [units] of it. Members are combined by
        `into`, or else by the mean after each was divided by its own mean, so that layers of different scale
        count alike. When no member has one of the roles, all do.
        """
        chosen = [m for m in self.members if m.role in roles] or list(self.members)
        parts = [np.asarray(measure(weights(member)), dtype=np.float64) for member in chosen]
        if not parts:
            return np.ones(self.units)
        if into is not None:
            result = parts[0]
            for part in parts[1:]:
                result = into(result, part)
            return result
        total = sum((part / (float(part.sum()) / len(part) or 1.0) for part in parts), np.zeros(self.units))
        return np.asarray(total / len(parts))

    def explain(self) -> str:
        """Return a readable account: members, units, saving."""
        lines = [
            f"{self.name} ({self.kind}): {self.units} units of {self.macs_per_unit:,.0f} MACs, "
            f"{self.params_per_unit:,.0f} parameters"
        ]
        lines.extend(
            f"  {m.tensor} axis {m.axis} ({m.role}, {m.index.shape[1]} positions a unit)"
            for m in self.members
        )
        return "\n".join(lines)


@dataclass(eq=False)
class Groups:
    """The groups of a model, the pins with their reasons, and exact counts."""

    analysis: Analysis
    structure: Structure
    groups: list[ChannelGroup]
    pinned: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[ChannelGroup]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def none_dead(self) -> Mask:
        """Return a mask [units] with nothing removed."""
        return np.zeros(len(self.structure.units), dtype=bool)

    def macs(self, dead: Mask | None = None) -> float:
        """Return the multiply-accumulates in sample world A (batch 2 when dynamic) with these units removed."""
        return self.structure.total(self.structure.macs, self.none_dead() if dead is None else dead)

    def params(self, dead: Mask | None = None) -> float:
        """Return the elements of analysed weights with these units removed."""
        return self.structure.total(self.structure.params, self.none_dead() if dead is None else dead)

    def balanced(
        self,
        dead: Mask,
        order: Floats | None = None,
        least: Callable[[ChannelGroup], int] | None = None,
        step: Callable[[ChannelGroup], int] | None = None,
        measure: Callable[[Mask], float] | None = None,
    ) -> Mask:
        """Return the choice nearest to `dead` in which every group of grouped operators that lives keeps equally many.

        Where whole groups can die and need not, `measure` says which choice is better (lower), not nearness. Every
        group keeps its own `least` (the experts a router chooses at once), whatever else is asked.
        `order` [units] says which of equal units go first (lowest); `least(group)` how many a group must keep; what
        it keeps is a multiple of `step(group)`, or everything.
        """
        made = balance_units(
            self.structure,
            [g.unit_ids for g in self.groups],
            dead,
            order,
            [max(least(g) if least else 1, g.least) for g in self.groups],
            [step(g) if step else 1 for g in self.groups],
            measure,
        )
        for group in self.groups:
            gone = group.unit_ids[made[group.unit_ids]]
            short = group.least - (group.units - len(gone))
            if group.least > 1 and short > 0:
                rank = np.zeros(len(gone)) if order is None else order[gone]
                made[gone[np.argsort(-rank, kind="stable")[:short]]] = False
        return made

    def dead_labels(self, dead: Mask) -> npt.NDArray[np.bool_]:
        """Return a mask over all labels for a mask over units."""
        result = np.zeros(self.analysis.labels.count, dtype=bool)
        result[self.structure.units[dead]] = True
        return result

    def floor(self) -> float:
        """Return the multiply-accumulates left when every group keeps as few units as it can."""
        dead = ~self.none_dead()
        for group in self.groups:
            dead[group.unit_ids[: group.least]] = False
        return self.macs(dead)

    def to_json(self) -> dict[str, object]:
        """Return groups and pins as plain JSON."""
        return {
            "groups": [
                {
                    "name": g.name,
                    "kind": g.kind,
                    "units": g.units,
                    "macs_per_unit": g.macs_per_unit,
                    "params_per_unit": g.params_per_unit,
                    "members": [
                        {"tensor": m.tensor, "axis": m.axis, "role": m.role, "positions": m.index.shape[1]}
                        for m in g.members
                    ],
                }
                for g in self.groups
            ],
            "pinned": dict(self.pinned),
            "no_rule": {op: list(names) for op, names in self.analysis.refused.items()},
        }


def groups(
    model: Model, info: ShapeInfo | None = None, may_change: Collection[str] = (), own_dims: bool = False
) -> Groups:
    """Find the channel groups of a model whose local functions have been inlined (options: see `analyse`)."""
    return group_units(analyse(model, info, may_change=may_change, own_dims=own_dims))


@paused()
def group_units(analysis: Analysis) -> Groups:
    """Collect an analysis's units into groups."""
    structure = Structure(analysis)
    families = _families(structure)
    family_of = np.full(len(structure.units), -1, dtype=np.int64)
    for number, ids in enumerate(families):
        family_of[ids] = number
    places = structure.places(family_of)
    stuck, reasons = (numbers.tolist() for numbers in structure.stuck())
    members: list[list[Member]] = [[] for _ in families]
    pinned: dict[str, str] = {}
    for use in analysis.weights.values():
        for axis_number, axis in enumerate(use.axes):
            number = structure.axis_id(axis)
            if number < 0:
                continue
            if stuck[number] and not use.follows(axis_number):
                length = len(structure.rows(number))
                share = "" if stuck[number] == length else f" ({stuck[number]} of {length} positions)"
                pinned.setdefault(
                    f"{use.name}[{axis_number}]{share}",
                    analysis.labels.reasons[reasons[number]] or "not tied to anything that may go",
                )
            if places[number]:
                role = _role(analysis, use, axis_number)
                for family, index in places[number]:
                    members[family].append(Member(use.name, axis_number, index, role, use))
    taps: list[list[Tap]] = [[] for _ in families]
    for mix in analysis.mixes:
        if analysis.is_inside(mix.node):
            continue  # nobody can fetch what a body computes
        tensor = analysis.nodes[mix.node].inputs[mix.slot].name
        if mix.kind not in ("zero", "attention", "rnn") or analysis.env.get(tensor) is None:
            continue
        for number, axis in mix.axes.items():
            if number >= 0:
                for family, index in places[structure.axis_id(axis)]:
                    taps[family].append(Tap(tensor, number, index))
    none = np.zeros(len(structure.units), dtype=bool)
    macs, params = structure.savings(structure.macs, none), structure.savings(structure.params, none)
    result = []
    taken: dict[str, int] = {}
    kind_of = kinds(analysis, structure, families, places)
    least = least_of(structure, places, families)
    for ids, mine, read, kind, few in zip(families, members, taps, kind_of, least, strict=True):
        name = _name(mine, taken)
        counts = [m.index.shape[1] for m in mine]
        multiplicity = gcd(*counts) if counts else 1
        result.append(
            ChannelGroup(
                name,
                ids,
                tuple(mine),
                tuple(read),
                float(macs[ids[0]]),
                float(params[ids[0]]),
                multiplicity,
                kind,
                few,
            )
        )
    return Groups(analysis, structure, result, pinned)


def _families(structure: Structure) -> list[Ints]:
    if not len(structure.units):
        return []
    _, inverse = np.unique(structure.signatures(), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    edges = np.flatnonzero(np.diff(inverse[order])) + 1
    parts = np.split(order, edges)
    mixed = _sharing_positions(structure, inverse)
    result: list[Ints] = []
    for ids in sorted(parts, key=lambda part: int(part[0])):
        result.extend(_by_role(structure, ids) if int(inverse[ids[0]]) in mixed else [ids])
    return result


def _sharing_positions(structure: Structure, family: Ints) -> set[int]:
    """Return the families of which two units sit on one position."""
    entries = structure.incidence.tocoo()
    owner = family[entries.row]
    order = np.lexsort((owner, entries.col))
    row, owner = entries.col[order], owner[order]
    again = (row[1:] == row[:-1]) & (owner[1:] == owner[:-1])
    return {int(f) for f in np.unique(owner[1:][again])}


def _by_role(structure: Structure, ids: Ints) -> list[Ints]:
    """Part units that share a position: as many heads as dims per head look alike but are not interchangeable."""
    sub = structure.incidence[ids]
    together = (sub @ sub.T).tocsr()
    result, left = [], np.arange(len(ids))
    while len(left):
        lead = left[0]
        met = together.indices[together.indptr[lead] : together.indptr[lead + 1]]
        meets = np.isin(left, met) & (left != lead)
        result.append(ids[left[~meets]])
        left = left[meets]
    return result


def _role(analysis: Analysis, use: WeightUse, axis: int) -> str:
    if sum(not a.is_rigid or a.sizes[0] > 1 for a in use.axes) <= 1:
        return "vector"
    if use.sites and all((node, slot, axis) in analysis.contracted for node, slot in use.sites):
        return "consumer"
    return "producer"


def _name(members: list[Member], taken: dict[str, int]) -> str:
    lead = next((m for m in members if m.role == "producer"), members[0] if members else None)
    name = f"{lead.tensor}[{lead.axis}]" if lead else "activations"
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}#{taken[name]}"
