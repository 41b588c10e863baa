"""Running statistics that every norm has to itself.

Exporters store equal numbers once. In a network that never ran, the means of all norms, and their biases, are one
tensor of zeros: named once and read by all, or handed on by Identity nodes that keep the names. A norm that trains
moves its own statistics, and nobody else's weight.
"""

from itertools import groupby

import onnx_graphsurgeon as gs

from graphrewrite.bridge.weights import STATISTICS, Stored, readers, stored
from graphrewrite.ir import Model
from graphrewrite.ir.edit import Namer, add_constant, all_graphs, producer, remove_nodes, set_input

_SUFFIXES = {3: "running_mean", 4: "running_var"}


def part(model: Model) -> dict[str, str]:
    """Give norms initializers of their own where their statistics are stored once with something else.

    Changes the model in place. What only norms with the same scale and bias read stays one tensor: that is one norm,
    run several times.

    Returns:
        The name of each new initializer, with the name of what it was part of.
    """
    numbers = stored(model)
    kept = {id(entry.tensor) for entry in numbers.values()}
    parts: list[tuple[str, Stored, list[_Read]]] = []
    for key, entry in numbers.items():
        reads = [_Read(node, slot, alias) for node, slot, alias in readers(entry.tensor)]
        moved = [read for read in reads if read.moves(kept)]
        is_mixed = len(moved) < len(reads) or len({read.slot for read in reads}) > 1
        groups = _groups(moved, entry, is_mixed)
        parts += [(key, entry, group) for group in (groups if is_mixed else groups[1:])]
    if not parts:
        return {}
    pen = _Pen(model)
    found = {pen.own(group, entry): key for key, entry, group in parts}
    pen.finish()
    return found


class _Read:
    """A slot of a node that reads stored numbers, under the name `alias` that an Identity node may have given them."""

    def __init__(self, node: gs.Node, slot: int, alias: gs.Tensor) -> None:
        self.node = node
        self.slot = slot
        self.alias = alias

    def moves(self, kept: set[int]) -> bool:
        """Whether a norm reads its mean or variance here, and both of them are stored."""
        slots = STATISTICS.get(self.node.op, ())
        return self.slot in slots and all(id(_source(self.node.inputs[slot])) in kept for slot in slots)


def _groups(reads: list[_Read], entry: Stored, is_mixed: bool) -> list[list[_Read]]:
    """Return the reads of one statistic each, in the order of the graph."""

    def owner(read: _Read) -> tuple[int, ...]:
        if read.alias is not entry.tensor:
            return (read.slot, id(read.alias))
        if is_mixed:
            return (read.slot, id(read.node))
        return (read.slot, *(id(_source(tensor)) for tensor in read.node.inputs[1:3]))

    order = {key: number for number, key in enumerate(dict.fromkeys(map(owner, reads)))}
    ranked = sorted(reads, key=lambda read: order[owner(read)])
    return [list(group) for _, group in groupby(ranked, key=owner)]


class _Pen:
    """Stores numbers once more; Identity nodes that only named them go."""

    def __init__(self, model: Model) -> None:
        self._names = Namer(model.graph)
        self._homes = {id(node): graph for graph in all_graphs(model.graph) for node in graph.nodes}
        self._needless: list[gs.Node] = []

    def own(self, group: list[_Read], entry: Stored) -> str:
        """Give these reads an initializer of their own; return its name."""
        first = group[0]
        maker = producer(first.alias) if first.alias is not entry.tensor else None
        home = self._homes.get(id(maker))
        if maker is not None and home is not None and _is_all(group, first.alias, home):
            self._needless.append(maker)
            constant = add_constant(home, first.alias.name, entry.array)
        else:
            stem = f"{first.node.outputs[0].name}.{_SUFFIXES[first.slot]}"
            constant = add_constant(entry.graph, self._names.fresh(stem), entry.array)
        for read in group:
            set_input(read.node, read.slot, constant)
        return str(constant.name)

    def finish(self) -> None:
        """Take out the nodes that nothing reads any more."""
        doomed = {id(node) for node in self._needless}
        for home in {id(self._homes[number]): self._homes[number] for number in doomed}.values():
            remove_nodes(home, [node for node in home.nodes if id(node) in doomed])


def _is_all(group: list[_Read], alias: gs.Tensor, home: gs.Graph) -> bool:
    """Whether nothing else reads an alias."""
    escapes = any(tensor is alias for tensor in home.outputs)
    nodes = {id(node): node for node in alias.outputs}.values()
    return not escapes and sum(read is alias for node in nodes for read in node.inputs) == len(group)


def _source(tensor: gs.Tensor) -> gs.Tensor:
    """Return what Identity nodes hand on under this name."""
    while (maker := producer(tensor)) is not None and maker.op == "Identity":
        tensor = maker.inputs[0]
    return tensor
