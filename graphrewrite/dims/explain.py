"""Explaining the groups of a model: who ties whom, what each saves, what pins the rest."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from graphrewrite import cost
from graphrewrite.dims.axes import Axis
from graphrewrite.dims.demands import demands, units_at_a_time
from graphrewrite.dims.explanation import Explained, Explanation, Obstacle, Pin, Place, Station, Tie, Weight
from graphrewrite.dims.groups import ChannelGroup, Groups, group_units
from graphrewrite.dims.history import Meeting, Recorder
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.record import Analysis, WeightUse
from graphrewrite.dims.routes import Routes, layer_labels
from graphrewrite.dims.structure import Floats, Mask, Structure
from graphrewrite.dims.sweep import analyse
from graphrewrite.dims.wording import tie_text
from graphrewrite.ir import Model
from graphrewrite.ir.shapes import ShapeInfo, infer


def explain(model: Model, info: ShapeInfo | None = None, may_change: Collection[str] = ()) -> Explanation:
    """Analyse a model whose local functions have been inlined, and explain its groups; MACs are for one sample.

    `may_change` is that of `analyse`.
    """
    info = info or infer(model)
    recorder = Recorder()
    found = group_units(analyse(model, info, recorder, may_change))
    return _Account(found, recorder, cost.of(model, info).batch).explanation()


@dataclass(frozen=True, eq=False)
class Carried:
    """What one axis carries: of each group (number -> positions per unit), of each pin (reason number -> positions)."""

    length: int
    groups: dict[int, int]
    pins: dict[int, int]


class _Account:
    """Looks up and puts together; everything is found once."""

    def __init__(self, found: Groups, recorder: Recorder, batch: int) -> None:
        self.found = found
        self.groups = found.groups
        self.analysis: Analysis = found.analysis
        self.structure: Structure = found.structure
        self.recorder = recorder
        self.batch = batch
        self.nodes = self.analysis.nodes
        self.labels = layer_labels(self.nodes)
        self._carried: dict[int, Carried] = {}
        # Every label's bucket: the number of its group, or past them the number of the reason it is pinned for.
        pins = recorder.pin_number(np.arange(recorder.count))
        self.buckets: Ints = np.where(pins > 0, len(self.groups) + pins, -1)
        for number, group in enumerate(self.groups):
            self.buckets[self.structure.units[group.unit_ids]] = number
        self.units = np.array([group.units for group in self.groups], dtype=np.int64)

    def explanation(self) -> Explanation:
        macs, params = self.found.macs(), self.found.params()
        routes = Routes(self.analysis, self.carried, self.labels)
        obstacles = tuple(self._obstacles(routes))
        through = self._through()
        activations = self._activations()
        groups = tuple(
            self._group(number, group, macs, params, through[number], activations[number])
            for number, group in enumerate(self.groups)
        )
        worth = [node for node, value in enumerate(self._node_macs) if value > 0]
        joins = [tie.node for group in groups for tie in group.ties if tie.kind == "joins"]
        stops, flows = routes.draw([*self._layers, *worth, *joins], [group.name for group in self.groups])
        return Explanation(
            groups,
            obstacles,
            tuple(self._station(number, node, routes) for number, node in enumerate(stops)),
            flows,
            round(macs / self.batch),
            round(params),
            round(float(self._values[~self._is_free].sum()) / self.batch),
            round(self.found.floor() / self.batch),
            {op: tuple(names) for op, names in self.analysis.refused.items()},
        )

    # --- what axes carry ------------------------------------------------------------------------------------------

    def carried(self, axis: Axis) -> Carried:
        """Return what an axis carries; axes are shared between tensors, so few are new."""
        known = self._carried.get(id(axis))
        if known is None:
            known = self._carried[id(axis)] = self._look(axis)
        return known

    def _look(self, axis: Axis) -> Carried:
        length = axis.sizes[0]
        if axis.is_rigid or not axis.is_static or axis.digits:
            return Carried(length, {}, {})
        rows = self.analysis.rows(axis)
        buckets = np.where(rows > 0, self.buckets[rows], -1)
        pins, groups = {}, {}
        for bucket, positions in zip(*np.unique(buckets[buckets >= 0], return_counts=True), strict=True):
            if bucket >= len(self.groups):
                pins[int(bucket) - len(self.groups)] = int(positions)
            else:
                groups[int(bucket)] = max(1, int(positions) // int(self.units[bucket]))
        return Carried(length, groups, pins)

    @cached_property
    def _names(self) -> dict[int, str]:
        """Source -> "tensor[axis]"."""
        names: dict[int, str] = {}
        for use in self.analysis.weights.values():
            for number, axis in enumerate(use.axes):
                source = self.recorder.source_of(axis)
                if source >= 0:
                    names.setdefault(source, f"{use.name}[{number}]")
        return names

    @cached_property
    def _owners(self) -> dict[str, tuple[int, ...]]:
        """The nodes that read the tensor of each "tensor[axis]"."""
        owners: dict[str, dict[int, None]] = {}
        for use in self.analysis.weights.values():
            for number in range(len(use.axes)):
                owners.setdefault(f"{use.name}[{number}]", {}).update(
                    dict.fromkeys(node for node, _ in use.sites)
                )
        return {name: tuple(nodes) for name, nodes in owners.items()}

    def _layers_of(self, use: WeightUse) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.labels[node] for node, _ in use.sites))

    # --- groups ---------------------------------------------------------------------------------------------------

    def _group(
        self,
        number: int,
        group: ChannelGroup,
        macs: float,
        params: float,
        through: float,
        places: list[Place],
    ) -> Explained:
        weights = tuple(
            Weight(
                m.tensor,
                m.axis,
                m.role,
                m.index.shape[1],
                m.use.axes[m.axis].sizes[0],
                self._layers_of(m.use),
            )
            for m in group.members
        )
        lead = next((w for w in weights if w.role == "producer"), weights[0] if weights else None)
        step = self._steps.get(number, 1)
        return Explained(
            name=group.name,
            label=(lead.layers or (lead.tensor,))[0] if lead else group.name,
            kind=group.kind,
            units=group.units,
            floor=max(step, group.least),
            step=step,
            macs_per_unit=round(group.macs_per_unit / self.batch),
            params_per_unit=round(group.params_per_unit),
            macs_share=group.macs_per_unit / max(macs, 1.0),
            params_share=group.params_per_unit / max(params, 1.0),
            macs_through=round(through / self.batch),
            members=weights,
            activations=tuple(places),
            ties=tuple(self._ties[number]),
        )

    @cached_property
    def _ties(self) -> list[list[Tie]]:
        """The ties of each group: joins, splits and repeats in the order of the sweep, then balances and statistics."""
        place_of = {why: node for node, why in reversed(list(enumerate(self._whys)))}
        roles = [{f"{m.tensor}[{m.axis}]": m.role for m in group.members} for group in self.groups]
        heard: dict[tuple[int, str], list[Meeting]] = {}
        for meeting in self.recorder.meetings(self.buckets):
            if meeting.bucket < len(self.groups):
                heard.setdefault((meeting.bucket, meeting.why), []).append(meeting)
        result: list[list[Tie]] = [[] for _ in self.groups]
        for (bucket, why), meetings in heard.items():
            makers = {name for name, role in roles[bucket].items() if role == "producer"} or set(
                roles[bucket]
            )
            result[bucket].extend(self._heard(place_of.get(why, -1), why, meetings, makers))
        for number, node, kind, parts in demands(self.analysis, lambda axis: set(self.carried(axis).groups)):
            result[number].append(self._tie(node, self._whys[node], kind, [], parts))
        return result

    def _heard(self, node: int, why: str, meetings: Sequence[Meeting], makers: set[str]) -> Iterator[Tie]:
        """Yield what a node does to a group, out of the meetings there."""
        sides: list[tuple[str, ...]] = []
        dims: tuple[int, ...] = ()
        split: dict[str, None] = {}
        repeats: dict[str, None] = {}
        for meeting in meetings:
            parts = [tuple(self._names[s] for s in part if s in self._names) for part in meeting.parts]
            made = [tuple(name for name in part if name in makers) for part in parts]
            if meeting.dims:
                dims = dims or meeting.dims
                split.update(dict.fromkeys(name for part in made for name in part))
            elif len([part for part in made if part]) > 1:
                sides = _merged(sides, [part for part in made if part])
            elif len(meeting.parts) == 1:
                repeats.update(dict.fromkeys(made[0]))
        if sides:
            yield self._tie(node, why, "joins", sides, dims)
        elif dims and split:
            yield self._tie(node, why, "splits", [tuple(split)], dims)
        elif repeats:
            yield self._tie(node, why, "repeats", [tuple(repeats)], ())

    def _tie(
        self, node: int, why: str, kind: str, sides: Sequence[tuple[str, ...]], dims: tuple[int, ...]
    ) -> Tie:
        op, _, rest = why.partition(" ")
        name = self.labels[node] if node >= 0 else rest
        own = [[node in self._owners.get(place, ()) for place in side] for side in sides]
        layers = [[self._label(place) for place in side] for side in sides]
        text = tie_text(op, name, kind, sides, layers, own, dims)
        return Tie(node, op, name, kind, tuple(sides), dims, text)

    def _label(self, place: str) -> str:
        owners = self._owners.get(place, ())
        return self.labels[owners[0]] if len(owners) == 1 else place

    @cached_property
    def _whys(self) -> list[str]:
        """What the analysis calls each node in its reasons."""
        return [
            f"{n.op} {n.name}" if n.name else f"{n.op} -> {n.outputs[0].name if n.outputs else ''}"
            for n in self.nodes
        ]

    @cached_property
    def _steps(self) -> dict[int, int]:
        """Group -> how many units go at a time, where grouped operators want equal counts."""
        return units_at_a_time(self.analysis, self.buckets, len(self.groups))

    def _activations(self) -> list[list[Place]]:
        result: list[list[Place]] = [[] for _ in self.groups]
        for tensor, axes in self.analysis.env.items():
            for number, axis in enumerate(axes or ()):
                if not axis.is_rigid:
                    carried = self.carried(axis)
                    for group, positions in carried.groups.items():
                        result[group].append(Place(tensor, number, positions, carried.length))
        return result

    # --- multiply-accumulates -------------------------------------------------------------------------------------

    @cached_property
    def _values(self) -> Floats:
        """The multiply-accumulates of each term."""
        alive = self.structure.alive_counts(self.structure.alive_rows(self.found.none_dead()))
        return self.structure.values(self.structure.macs, alive)

    @cached_property
    def _term_groups(self) -> csr_matrix:
        """Which groups the sides of each term carry, [terms, groups]."""
        family = np.full(len(self.structure.units), -1, dtype=np.int64)
        for number, group in enumerate(self.groups):
            family[group.unit_ids] = number
        entries = self.structure.incidence.tocoo()
        axis_groups = csr_matrix(
            (np.ones(len(entries.row)), (self.structure.row_axis[entries.col], family[entries.row])),
            shape=(self.structure.axes, len(self.groups)),
        )
        axes = self.structure.macs.axes
        rows, columns = np.nonzero((axes >= 0) & (axes < self.structure.axes))
        sides = csr_matrix(
            (np.ones(len(rows)), (rows, axes[rows, columns])), shape=(len(axes), self.structure.axes)
        )
        return csr_matrix((sides @ axis_groups) > 0)

    @cached_property
    def _is_free(self) -> Mask:
        return np.asarray(np.diff(self._term_groups.indptr) > 0)

    @cached_property
    def _node_macs(self) -> Floats:
        return self._per_node(self._values)

    @cached_property
    def _node_fixed(self) -> Floats:
        return self._per_node(np.where(self._is_free, 0.0, self._values))

    def _per_node(self, values: Floats) -> Floats:
        sums = np.bincount(self.structure.macs.nodes, weights=values, minlength=len(self.nodes))
        return sums.astype(np.float64)

    def _through(self) -> Floats:
        return np.asarray(self._term_groups.T.astype(np.float64) @ self._values)

    # --- pins -----------------------------------------------------------------------------------------------------

    def _obstacles(self, routes: Routes) -> Iterator[Obstacle]:
        """Yield what is pinned, by reason; what costs most comes first."""
        pins: dict[int, list[Pin]] = {}
        nodes: dict[int, set[int]] = {}
        for use in self.analysis.weights.values():
            for number, axis in enumerate(use.axes):
                if axis.is_rigid or use.follows(number):
                    continue
                carried = self.carried(axis)
                for reason, positions in carried.pins.items():
                    sites = [node for node, _ in use.sites]
                    text = self.recorder.reasons[reason]
                    chain = routes.chain(reason, text, sites, self._whys)
                    layers = self._layers_of(use)
                    pins.setdefault(reason, []).append(
                        Pin(use.name, number, positions, carried.length, text, layers, chain)
                    )
                    nodes.setdefault(reason, set()).update(sites)
        rows = [
            Obstacle(
                self.recorder.reasons[reason],
                tuple(entries),
                round(float(self._node_macs[sorted(nodes[reason])].sum()) / self.batch),
            )
            for reason, entries in pins.items()
        ]
        yield from sorted(rows, key=lambda row: (-row.macs, row.reason))

    # --- drawing --------------------------------------------------------------------------------------------------

    @cached_property
    def _layers(self) -> frozenset[int]:
        """Nodes that read a weight matrix some axis of which carries labels."""
        return frozenset(
            node
            for use in self.analysis.weights.values()
            if sum(axis.sizes[0] > 1 for axis in use.axes) > 1 and not all(a.is_rigid for a in use.axes)
            for node, _ in use.sites
        )

    @cached_property
    def _by_node(self) -> dict[int, dict[str, dict[int, None]]]:
        """Node -> role -> groups of the weight axes it reads."""
        result: dict[int, dict[str, dict[int, None]]] = {}
        for number, group in enumerate(self.groups):
            for member in group.members:
                for node, _ in member.use.sites:
                    result.setdefault(node, {}).setdefault(member.role, {})[number] = None
        return result

    def _station(self, number: int, node: int, routes: Routes) -> Station:
        if node < 0 or node >= len(self.nodes):
            label, kind = routes.ends[node]
            return Station(number, -1, "", label, kind, 0, 0, (), (), ())
        roles = self._by_node.get(node, {})
        made, read = roles.get("producer", {}), roles.get("consumer", {})
        passed = {
            n: None
            for tensor in self.nodes[node].outputs
            for axis in self.analysis.env.get(tensor.name) or ()
            if not axis.is_rigid
            for n in self.carried(axis).groups
            if n not in made and n not in read
        }
        is_layer = node in self._layers or self._node_macs[node] > 0
        return Station(
            number,
            node,
            self.nodes[node].op,
            self.labels[node],
            "layer" if is_layer else "join",
            round(float(self._node_macs[node]) / self.batch),
            round(float(self._node_fixed[node]) / self.batch),
            *(tuple(self.groups[n].name for n in part) for part in (made, read, passed)),
        )


def _merged(sides: list[tuple[str, ...]], parts: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Add parts to the sides known so far: a part that has grown out of known sides brings only what is new."""
    known = {name for side in sides for name in side}
    new = [tuple(name for name in part if name not in known) for part in parts]
    return [*sides, *(part for part in new if part)]
