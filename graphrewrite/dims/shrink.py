"""Carrying a cut out: weights lose positions, and every number that repeats a cut length follows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import Axis
from graphrewrite.dims.cut_weights import Kept, cut_weights
from graphrewrite.dims.freeze import freeze
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.record import Balance
from graphrewrite.dims.redeclare import redeclare
from graphrewrite.dims.survivors import Survivors
from graphrewrite.dims.sweep import Analysis
from graphrewrite.errors import ShapeError, UnknownNameError
from graphrewrite.ir import Array, Model, Namer, array_of, constant_value
from graphrewrite.ir.edit import add_constant, all_graphs, remove_nodes, set_input


@dataclass(eq=False)
class Shrunk:
    """A model after a cut.

    `kept` lists, for every tensor that was cut, axis -> kept positions of the original; private copies of a shared
    vector appear under their new name, with the old one in `copied_from`. `ports` says the same of graph inputs and
    outputs (those that were allowed to change).
    """

    model: Model
    kept: dict[str, Kept]
    copied_from: dict[str, str]
    nodes: list[gs.Node]
    kept_of: Callable[[Axis], Ints | None]
    ports: dict[str, dict[int, Ints]] = field(default_factory=dict)


def shrink(analysis: Analysis, dead: npt.NDArray[np.bool_]) -> Shrunk:
    """Remove the positions of dead labels; `dead` is a mask over all labels (see `Groups.dead_labels`)."""
    cut = Cut(analysis, dead)
    for restate in analysis.restates:
        if any(cut.is_cut(axis) for axis in restate.needs):
            restate.apply(cut)
    cut.finish()
    return Shrunk(cut.model, cut.kept_weights, cut.copied_from, cut.nodes, cut.kept, cut.ports)


class Cut(Survivors):
    """One cut in progress: what is kept, the clone being edited, and the edits rules ask for."""

    def __init__(self, analysis: Analysis, dead: npt.NDArray[np.bool_]) -> None:
        super().__init__(analysis, dead)
        self.kept_weights: dict[str, Kept] = {}
        self.copied_from: dict[str, str] = {}
        self.ports: dict[str, dict[int, Ints]] = {}
        self.model = analysis.model.clone()
        self.graph = self.model.graph
        self.graphs = list(all_graphs(self.graph))
        self.nodes = [node for graph in self.graphs for node in graph.nodes]
        self.returned = {id(tensor) for graph in self.graphs for tensor in graph.outputs}
        self._homes = {id(node): graph for graph in self.graphs[1:] for node in graph.nodes}
        self._before: dict[int, list[gs.Node]] = {}
        self._after: dict[int, list[gs.Node]] = {}
        self._frozen: list[tuple[gs.Node, list[Axis]]] = []
        self._dropped: list[gs.Node] = []

    @cached_property
    def namer(self) -> Namer:
        """Hands out names; most cuts add nothing that needs one."""
        return Namer(self.graph)

    # --- edits that rules ask for ---------------------------------------------------------------------------------

    def set_attr(self, node: int, name: str, value: object) -> None:
        """Set an attribute."""
        self.nodes[node].attrs[name] = value

    def set_groups(self, node: int, name: str, balances: Sequence[Balance]) -> None:
        """Let an attribute count the groups that live."""
        living = self.living_in(node, balances)
        if not living.all():
            self.set_attr(node, name, int(living.sum()))

    def living_in(self, node: int, balances: Sequence[Balance]) -> npt.NDArray[np.bool_]:
        """Return which groups live in a node, [groups].

        Raises:
            ShapeError: a group lives in one of the node's balances and not in another.
        """
        living = [self.living(balance.axis, balance.groups) for balance in balances]
        if any((lives != living[0]).any() for lives in living):
            raise ShapeError(
                f"{self.nodes[node].name or self.nodes[node].op}: a group would lose all it has on one side only; "
                "it dies on all sides or on none; use Groups.balanced on the choice"
            )
        return living[0]

    def set_numbers(self, node: int, slot: int, attribute: str | None, numbers: Sequence[int]) -> None:
        """Replace a list of integers, whether it is an attribute or an input."""
        if attribute is not None and attribute in self.nodes[node].attrs:
            self.nodes[node].attrs[attribute] = [int(n) for n in numbers]
            return
        self._feed(node, slot, np.asarray(numbers, dtype=np.int64))

    def set_target(self, node: int, slot: int, out: Sequence[Axis]) -> None:
        """Restate a Reshape: static axes get their new lengths, one dynamic axis becomes -1, others are looked up."""
        if "shape" in self.nodes[node].attrs and len(self.nodes[node].inputs) < 2:
            self.nodes[node].attrs["shape"] = [self.count(axis) if axis.is_static else -1 for axis in out]
            return
        self.nodes[node].attrs.pop("allowzero", None)
        dynamic = [i for i, axis in enumerate(out) if not axis.is_static]
        # A dynamic axis that was cut cannot be looked up (its old length would be reported): it takes the -1.
        inferred = next((i for i in dynamic if not out[i].is_rigid), dynamic[0] if dynamic else None)
        elements: list[int | None] = []
        for i, axis in enumerate(out):
            elements.append(-1 if i == inferred else None if i in dynamic else self.count(axis))
        self._write(node, slot, elements)

    def set_sizes(self, node: int, slot: int, out: Sequence[Axis]) -> None:
        """Restate a vector of sizes (Expand, ConstantOfShape, Resize); dynamic ones are looked up in the old vector."""
        elements: list[int | None] = []
        for axis in out:
            # Expand takes 1 for "as the input has it", which a cut dynamic axis needs.
            elements.append(self.count(axis) if axis.is_static else None if axis.is_rigid else 1)
        self._write(node, slot, elements)

    def set_elements(self, node: int, slot: int, values: Mapping[int, int]) -> None:
        """Replace some elements of a vector of integers, leaving the others as they come."""
        old = self.analysis.info.sizes(self.nodes[node].inputs[slot].name)
        length = old[0] if old else 0
        self._write(node, slot, [values.get(i) for i in range(length)])

    def set_split(self, node: int, windows: Sequence[Axis]) -> None:
        """Write the sizes of a Split out."""
        sizes = [self.count(window) for window in windows]
        target = self.nodes[node]
        target.attrs.pop("num_outputs", None)
        if self.model.opset < 13:
            target.attrs["split"] = sizes
        else:
            self._feed(node, 1, np.asarray(sizes, dtype=np.int64))

    def set_slice(self, node: int, picks: Mapping[int, tuple[int, Axis, Ints]]) -> None:
        """Restate the cut axes of a Slice: new bounds where the kept positions are a run, a Gather otherwise.

        `picks` maps a position in the slice's vectors to (axis, its labels, picked positions).
        """
        target = self.nodes[node]
        bounds: dict[int, tuple[int, int]] = {}
        gathers: list[tuple[int, Ints]] = []
        for position, (axis_number, axis, picked) in picks.items():
            new = self.renumbered(axis, picked)
            if len(new) and (np.diff(new) == 1).all():
                bounds[position] = (int(new[0]), int(new[-1]) + 1)
            else:
                bounds[position] = (0, np.iinfo(np.int32).max)
                gathers.append((axis_number, new))
        if self.model.opset < 10:
            for name, side in (("starts", 0), ("ends", 1)):
                target.attrs[name] = [
                    bounds[i][side] if i in bounds else v for i, v in enumerate(target.attrs[name])
                ]
        else:
            for slot, side in ((1, 0), (2, 1)):
                self.set_elements(node, slot, {i: pair[side] for i, pair in bounds.items()})
            if len(target.inputs) > 4 and target.inputs[4].name:
                self.set_elements(node, 4, dict.fromkeys(bounds, 1))
        for axis_number, new in gathers:
            self._gather_before(node, axis_number, new)

    def set_indices(self, node: int, slot: int, axis: Axis, picked: Ints, column: bool = False) -> None:
        """Renumber constant indices into a cut axis; picks of dead positions go (vectors only)."""
        old = self.nodes[node].inputs[slot]
        shape = self.analysis.info.sizes(old.name) or ()
        new = self.renumbered(axis, picked)
        dtype = self.analysis.info.dtype(old.name) or np.dtype(np.int64)
        array = new.astype(dtype)
        self._feed(
            node, slot, array.reshape(-1, 1) if column else array if len(shape) == 1 else array.reshape(shape)
        )

    def set_shuffle(self, node: int, source: str, axis_number: int, axis: Axis, order: Ints) -> None:
        """Replace the end of a shuffle by one Gather from its beginning; what lay between falls out."""
        kept = self.kept(axis)
        assert kept is not None
        from_old = order[kept]
        place = np.zeros(len(order), dtype=np.int64)
        place[np.sort(from_old)] = np.arange(len(from_old))
        target = self.nodes[node]
        tensor = target.inputs[0]
        between = []
        while tensor.name != source:
            between.append(tensor.inputs[0])
            tensor = tensor.inputs[0].inputs[0]
        index = self.file(f"{target.name}.shuffle", place[from_old], target)
        target.op = "Gather"
        target.attrs.clear()
        target.attrs["axis"] = axis_number
        target.inputs = [tensor, index]
        self._dropped.extend(between)

    def set_first(self, node: int, slot: int, count: int) -> None:
        """Let a node pick the first position `count` times, where it does not matter which."""
        old = self.nodes[node].inputs[slot]
        dtype = self.analysis.info.dtype(old.name) or np.dtype(np.int64)
        self._feed(node, slot, np.zeros(count, dtype).reshape(self.analysis.info.sizes(old.name) or ()))

    def as_reshape(self, node: int, out: Sequence[Axis]) -> None:
        """Turn a look-up by numbers that only count up into the Reshape it is; what made the numbers falls out."""
        target = self.nodes[node]
        index = target.inputs[1]
        target.op = "Reshape"
        target.attrs.clear()
        if sum(not axis.is_static for axis in out) > 1:
            set_input(target, 1, self.insert(node, "Shape", [index], {}))
            self.set_target(node, 1, out)
            return
        elements = [self.count(axis) if axis.is_static else -1 for axis in out]
        self._feed(node, 1, np.asarray(elements, dtype=np.int64))
        self._drop_unread(index)

    def _drop_unread(self, tensor: gs.Tensor) -> None:
        """Let the nodes that made a tensor nobody reads any more fall out."""
        waiting, gone = [tensor], {id(node) for node in self._dropped}
        returned = {id(output) for output in self.graph.outputs}
        while waiting:
            for maker in waiting.pop().inputs:
                readers = [reader for output in maker.outputs for reader in output.outputs]
                if all(id(r) in gone for r in readers) and not any(id(t) in returned for t in maker.outputs):
                    gone.add(id(maker))
                    self._dropped.append(maker)
                    waiting.extend(maker.inputs)

    def take(self, node: int, slot: int, number: int, axis: Axis) -> None:
        """Let input `slot`, whose own axis `number` stays whole, lose there what `axis` loses."""
        kept = self.kept(axis)
        if kept is not None:
            self._gather_before(node, number, kept, slot)

    def take_first(self, node: int, slot: int, number: int, axis: Axis) -> None:
        """Let input `slot`, whose own axis `number` stays whole, keep as many there as `axis` keeps: the first."""
        kept = self.kept(axis)
        if kept is not None:
            self._gather_before(node, number, np.arange(len(kept)), slot)

    def freeze(self, node: int, axes: Sequence[Axis]) -> None:
        """Let a Shape or Size node report the old sizes; done at the end, when its consumers are known."""
        self._frozen.append((self.nodes[node], list(axes)))

    # --- writing --------------------------------------------------------------------------------------------------

    def _feed(self, node: int, slot: int, values: Array) -> None:
        target = self.nodes[node]
        while len(target.inputs) <= slot:
            target.inputs.append(gs.Variable.empty())
        stem = f"{target.name or target.op}.input{slot}"
        set_input(target, slot, self.file(stem, values, target))

    def _write(self, node: int, slot: int, elements: Sequence[int | None]) -> None:
        """Write a vector of integers; None means "as the old vector has it"."""
        target = self.nodes[node]
        old = target.inputs[slot]
        known = constant_value(old)
        if known is not None:
            shift = len(elements) - len(known)
            elements = [
                int(known[i - shift]) if e is None and i >= shift else 1 if e is None else e
                for i, e in enumerate(elements)
            ]
        if all(e is not None for e in elements):
            dtype = self.analysis.info.dtype(old.name) or np.dtype(np.int64)
            self._feed(node, slot, np.asarray(elements, dtype=dtype))
            return
        sizes = self.analysis.info.sizes(old.name)
        shift = len(elements) - (sizes[0] if sizes else len(elements))
        pieces: list[gs.Tensor] = []
        for i, element in enumerate(elements):
            if element is None and i >= shift:
                index = self.file(f"{target.name}.at{i}", np.asarray([i - shift], dtype=np.int64), target)
                pieces.append(self.insert(node, "Gather", [old, index], {"axis": 0}))
            else:
                value = np.asarray([1 if element is None else element], dtype=np.int64)
                pieces.append(self.file(f"{target.name}.size{i}", value, target))
        set_input(target, slot, self.insert(node, "Concat", pieces, {"axis": 0}))

    def insert(
        self, node: int, op: str, inputs: Sequence[gs.Tensor], attrs: dict[str, object]
    ) -> gs.Variable:
        """Add a node just before node `node` and return its output."""
        target = self.nodes[node]
        name = self.namer.fresh(f"{target.name or target.op}.{op.lower()}")
        out = gs.Variable(name)
        self._before.setdefault(id(target), []).append(gs.Node(op, name, attrs, list(inputs), [out]))
        return out

    def append(
        self,
        node: gs.Node,
        op: str,
        inputs: Sequence[gs.Tensor],
        out: gs.Tensor,
        attrs: dict[str, object] | None = None,
    ) -> None:
        """Add a node just after another, behind those added there before, but ahead of the first that reads it."""
        name = self.namer.fresh(f"{node.name or node.op}.{op.lower()}")
        added = self._after.setdefault(id(node), [])
        place = next((i for i, n in enumerate(added) if any(t is out for t in n.inputs)), len(added))
        added.insert(place, gs.Node(op, name, attrs or {}, list(inputs), [out]))

    def file(self, stem: str, values: Array, reader: gs.Node | None = None) -> gs.Constant:
        """File a constant under a fresh name, in the graph of its reader (without one in the main graph)."""
        return add_constant(self.home(reader), self.namer.fresh(stem), values)

    def made_by(self, node: gs.Node) -> list[gs.Tensor]:
        """Return what a node gives, and what the nodes put behind it give: its outputs may come from those."""
        return [*node.outputs, *(t for each in self._after.get(id(node), ()) for t in each.outputs)]

    def home(self, node: gs.Node | None) -> gs.Graph:
        """Return the graph a node belongs to."""
        return self._homes.get(id(node), self.graph)

    def _gather_before(self, node: int, axis: int, index: Ints, slot: int = 0) -> None:
        target = self.nodes[node]
        constant = self.file(f"{target.name}.kept", index.astype(np.int64), target)
        source = target.inputs[slot]
        set_input(target, slot, self.insert(node, "Gather", [source, constant], {"axis": axis}))

    # --- finishing ------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Cut weights, freeze shapes, restate declared shapes, put inserted nodes in place, drop what fell out."""
        cut_weights(self)
        removed = [node for node, axes in self._frozen if freeze(self, node, axes)] + self._dropped
        redeclare(self)
        gone = {id(node) for node in removed}
        for graph in self.graphs:
            ordered: list[gs.Node] = []
            for node in graph.nodes:
                ordered.extend(self._before.get(id(node), ()))
                ordered.append(node)
                ordered.extend(self._after.get(id(node), ()))
            graph.nodes = ordered
            remove_nodes(graph, [node for node in ordered if id(node) in gone])
        for graph, before in zip(self.graphs, self.analysis.graphs, strict=True):
            self._drop_constants(graph, before)

    def _drop_constants(self, graph: gs.Graph, before: gs.Graph) -> None:
        """Drop the initializers that nothing reads any more."""
        used_before = {name for name, c in before.initializers.items() if len(c.outputs)}
        for name in [n for n, c in graph.initializers.items() if not len(c.outputs)]:
            constant = graph.initializers[name]
            if (name in used_before or name not in before.initializers) and id(constant) not in self.returned:
                del graph.initializers[name]
                graph.inputs = [tensor for tensor in graph.inputs if tensor is not constant]


def weight_array(model: Model, name: str) -> Array:
    """Return a weight by tensor name, whether an initializer or the output of a Constant node, of bodies too."""
    for graph in all_graphs(model.graph):
        constant = graph.initializers.get(name)
        if constant is not None:
            return array_of(constant)
        for node in graph.nodes:
            if node.op == "Constant" and node.outputs and node.outputs[0].name == name:
                value = constant_value(node.outputs[0])
                if value is not None:
                    return value
    raise UnknownNameError(f"the model has no weight {name!r}; see list(model.weights)")


__all__ = ["Cut", "Shrunk", "shrink", "weight_array"]
