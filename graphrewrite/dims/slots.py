"""Weights of grouped convolutions that are made from constants: the slots that stay differ from group to group.

Weight standardisation, weight norm and dequantization stand between what is stored, [out, slots, kernel], and the
convolution. Which slots an output channel keeps depends on its group, so no tensor on the way has kept positions on
its slots. Where every one of them has the output channels as another axis, each row can keep slots of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import Axis, rows_of
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.record import Grouped, Members, Mix, Slots, WeightUse, is_constant
from graphrewrite.ir import Array
from graphrewrite.ir.domains import domain_name

if TYPE_CHECKING:
    from graphrewrite.dims.step import Step

# A weight is made in a few steps; a convolution whose kernel depends on the input has the whole model behind it.
_MANY = 64
_MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity"})
_EVEN = frozenset(
    {"Abs", "Add", "Cast", "Clip", "DequantizeLinear", "Div", "Exp", "Max", "Min", "Mul", "Neg", "Pow"}
)
_EVEN |= {"QuantizeLinear", "Reciprocal", "Sign", "Sqrt", "Sub", "Tanh"}
_ASK = frozenset({"Shape", "Size", "CastLike"})
_FILLED = frozenset({"zero", "mean", "lowest", "highest", "one"})
_NORMS = frozenset({"moments", "batch_statistics"})


@dataclass(frozen=True)
class Place:
    """Where a tensor has the slots (repeated `lead` times as a whole) and the output channels."""

    slots: int
    out: int
    lead: int


@dataclass(eq=False)
class Making:
    """What makes the weight of one convolution: the nodes, and where the tensors between have slots."""

    s: Step
    slot: int
    weight: tuple[Axis, Axis]
    nodes: dict[int, gs.Node] = field(default_factory=dict)
    uses: list[tuple[WeightUse, Place]] = field(default_factory=list)
    mixes: list[tuple[Mix, Place]] = field(default_factory=list)

    def is_followed(self) -> bool:
        """Look at how the weight is made; tell whether each output channel can keep slots of its own."""
        self.nodes, self.uses, self.mixes = {}, [], []
        return self._collect() and self._place()

    def balance(self, into: Axis, groups: int) -> None:
        """Let the slots of each output channel follow the channels of its group."""
        analysis, (out, slots) = self.s.analysis, self.weight
        for use, place in self.uses:
            use.grouped = Grouped(into, out, groups, place.slots, place.out, place.lead)
        for mix, place in self.mixes:
            del mix.axes[place.slots]
            mix.members = Members(into, groups, place.out, place.slots, place.lead)
        labels = analysis.rows(slots)[:, 0]
        self.s.pin(slots, "slots follow the channels of each group")
        analysis.slots.append(Slots(labels, into, groups))

    def _collect(self) -> bool:
        """Find the nodes behind the weight; tell whether they are few."""
        waiting = [self.s.node.inputs[self.slot]]
        positions = self.s.analysis.positions
        while waiting:
            tensor = waiting.pop()
            if is_constant(tensor) or not len(tensor.inputs):
                continue
            maker = tensor.inputs[0]
            index = positions.get(id(maker))
            if index is None or len(self.nodes) == _MANY:
                return False
            if index not in self.nodes:
                self.nodes[index] = maker
                waiting.extend(t for t in maker.inputs if t.name)
        return True

    def _place(self) -> bool:
        """Find the slots in every tensor; tell whether all that touches them can be followed."""
        analysis = self.s.analysis
        out, slots = (analysis.rows(axis) for axis in self.weight)
        if slots.shape[1] > 1 or not slots.all() or len(np.unique(slots)) < len(slots):
            return False
        if analysis.labels.pin_number(slots[:, 0]).any():
            return False
        places: dict[str, Place] = {}
        known: set[tuple[str, int]] = set()
        sites = [(i, n, slot, t) for i, n in self.nodes.items() for slot, t in enumerate(n.inputs) if t.name]
        sites.append((self.s.index, self.s.node, self.slot, self.s.node.inputs[self.slot]))
        for index, _, slot, tensor in sites:
            use = analysis.uses.get((index, slot)) if is_constant(tensor) else None
            if (tensor.name, id(use)) in known:
                continue
            known.add((tensor.name, id(use)))
            axes = use.axes if use is not None else analysis.env.get(tensor.name) or ()
            found = self._find(list(axes), out, slots[:, 0])
            if found is None:
                continue
            if isinstance(found, str) or not self._is_ours(tensor, use):
                return False
            places[tensor.name] = found
            if use is not None:
                self.uses.append((use, found))
        touched = {
            i: n for i, n, _, t in sites if t.name in places and i != self.s.index and n.op not in _ASK
        }
        mixes: dict[int, list[Mix]] = {index: [] for index in touched}
        for mix in analysis.mixes if touched else ():
            if mix.node in mixes:
                mixes[mix.node].append(mix)
        return all(self._is_known(node, mixes[index], places) for index, node in touched.items())

    def _find(self, axes: list[Axis], out: Ints, slots: Ints) -> Place | str | None:
        """Return where a tensor has slots, None when it has none, a reason when it has them in no usable way."""
        labels = self.s.analysis.labels
        carrying = []
        for number, axis in enumerate(axes):
            if axis.is_rigid:
                continue
            if axis.digits or not axis.is_static:
                return "an axis that is split or dynamic"
            flat = labels.terminals(rows_of(labels, axis, self.s.why))
            if np.isin(flat, slots).any():
                carrying.append((number, flat))
        if not carrying:
            return None
        number, flat = carrying[0]
        order = np.argsort(slots)
        hits = np.isin(flat, slots)
        beside = [
            i
            for i, axis in enumerate(axes)
            if i != number and np.array_equal(self.s.analysis.rows(axis), out)
        ]
        free = (flat > 0) & (labels.pin_number(flat) == 0) & ~hits
        if len(carrying) > 1 or len(beside) != 1 or free.any() or (hits.sum(axis=1) != 1).any():
            return "slots are not beside the output channels"
        mine = order[np.searchsorted(slots[order], flat[hits])]
        run = int(np.flatnonzero(np.append(mine[1:] != mine[:-1], True))[0]) + 1
        lead = len(mine) // (run * len(slots))
        if lead < 1 or not np.array_equal(mine, np.tile(np.repeat(np.arange(len(slots)), run), lead)):
            return "slots in another order"
        return Place(number, beside[0], lead)

    def _is_ours(self, tensor: gs.Tensor, use: WeightUse | None) -> bool:
        """Whether nobody but the nodes that make the weight, and its convolution, reads a tensor."""
        analysis = self.s.analysis
        known = {*self.nodes, self.s.index}
        if id(tensor) in analysis.returned or (
            use is not None and not {node for node, _ in use.sites} <= known
        ):
            return False
        return all(
            reader.op in ("Shape", "Size") or analysis.positions.get(id(reader)) in known
            for reader in tensor.outputs
        )

    def _is_known(self, node: gs.Node, mixes: Sequence[Mix], places: dict[str, Place]) -> bool:
        """Whether a node moves slots, treats them alike, or mixes those of a row in a way the reference can mask."""
        if domain_name(node.domain):
            return False
        if node.op in _MOVES or node.op in _EVEN:
            return True
        for mix in mixes:
            place = places.get(node.inputs[mix.slot].name)
            if place is None or place.slots not in mix.axes or mix.members is not None:
                return False
            others = [axis for number, axis in mix.axes.items() if number != place.slots]
            if mix.kind not in _FILLED and (mix.kind not in _NORMS or others):
                return False
            self.mixes.append((mix, place))
        # With given statistics a batch norm treats everything beside its channels alike.
        return bool(mixes) or node.op == "BatchNormalization"


def taken(weight: Array, grouped: Grouped, kept: Ints) -> Array:
    """Let each output channel keep the slots of its group; `kept` is [groups, kept slots], the other axes are whole."""
    rows = np.moveaxis(weight, (grouped.along, grouped.axis), (0, 1))
    slots = grouped.into.sizes[0] // grouped.groups
    blocks = rows.reshape(len(rows), grouped.lead, slots, -1, *rows.shape[2:])
    own = np.repeat(kept, len(rows) // grouped.groups, axis=0)  # [out, kept slots]
    picked = np.moveaxis(blocks, 2, 1)[np.arange(len(rows))[:, None], own]
    length = prod((grouped.lead, own.shape[1], blocks.shape[3]))
    result = np.moveaxis(picked, 1, 2).reshape(len(rows), length, *rows.shape[2:])
    return np.asarray(np.moveaxis(result, (0, 1), (grouped.along, grouped.axis)))
