"""What a set of dead labels leaves without any position, and the graph without that.

A cut keeps a unit of every axis. When a whole branch of a concatenation goes, its tensors keep none: they, and the
nodes that make them, have to go altogether, and the concatenation loses the operand. This tells which tensors those
are; who may do without them is for the caller to decide.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import Axis, Digit, Rigid
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.shrink import Shrunk, shrink
from graphrewrite.dims.sweep import Analysis
from graphrewrite.ir.edit import all_nodes, detach, drop_unused, set_input, subgraphs_of

Mask = npt.NDArray[np.bool_]


class Emptiness:
    """All axes of an analysed model, laid out so that one pass over their positions says which are empty.

    Attributes:
        maker: name of a tensor -> number of the node of the main graph that makes it, itself or in its body.
    """

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._top: dict[int, int] = {}
        self.maker: dict[str, int] = {}
        for index, node in enumerate(analysis.model.graph.nodes):
            for each in (node, *(n for body in subgraphs_of(node) for n in all_nodes(body))):
                self._top[analysis.positions[id(each)]] = index
                self.maker.update((tensor.name, index) for tensor in each.outputs)
        self._number: dict[int, int] = {}
        self._blocks: list[Ints] = []
        self._held: list[Ints] = []  # ids stay valid only while the arrays live
        self._tensors: list[list[str]] = []
        self._readers: list[list[int]] = []
        for name, axes in analysis.env.items():
            for axis in axes or ():
                for number in self._numbers(axis):
                    self._tensors[number].append(name)
        for name, items in analysis.sequences.items():
            for axis in (axis for item in items.axes for axis in item):
                for number in self._numbers(axis):
                    self._tensors[number].append(name)  # a list goes as soon as one of its items would
        for use in analysis.weights.values():
            for axis in (*use.axes, *((use.grouped.into,) if use.grouped else ())):
                for number in self._numbers(axis):
                    self._readers[number].extend(self._top[node] for node, _ in use.sites)
        sizes = np.array([len(block) for block in self._blocks], dtype=np.int64)
        self._sizes = sizes
        self._of_row = np.repeat(np.arange(len(sizes)), sizes)
        widths = np.array([block.shape[1] for block in self._blocks], dtype=np.int64)
        self._row = np.repeat(np.arange(int(sizes.sum())), widths[self._of_row] if len(sizes) else 0)
        self._label = np.concatenate([block.ravel() for block in self._blocks] or [np.zeros(0, np.int64)])

    def _numbers(self, axis: Axis) -> list[int]:
        """Return the numbers of the labelled factors of an axis: it is empty when one of them is."""
        found = []
        for factor in axis.factors:
            if isinstance(factor, Rigid):
                continue
            labels = factor.joint.labels if isinstance(factor, Digit) else factor.labels
            number = self._number.get(id(labels))
            if number is None:
                number = self._number[id(labels)] = len(self._blocks)
                self._held.append(labels)
                self._blocks.append(self._analysis.labels.resolve(labels))
                self._tensors.append([])
                self._readers.append([])
            found.append(number)
        return found

    def of(self, dead: Mask) -> tuple[set[str], set[int]]:
        """Return the tensors without positions, and the nodes (of the main graph) that read weights without any.

        `dead` is a mask over all labels.
        """
        killed = np.zeros(len(self._of_row), dtype=bool)
        killed[self._row[dead[self._label]]] = True
        counts = np.bincount(self._of_row[killed], minlength=len(self._sizes))
        empty = np.flatnonzero((counts == self._sizes) & (self._sizes > 0)).tolist()
        tensors = {name for number in empty for name in self._tensors[number]}
        return tensors, {reader for number in empty for reader in self._readers[number]}

    def is_balanced(self, dead: Mask) -> bool:
        """Whether every group of the grouped operators keeps equally many members, and enough stay to choose from.

        All groups may lose all of their members.
        """
        for axis, count in self._analysis.chosen:
            alive = ~dead[self._analysis.rows(axis)].any(axis=1)
            if 0 < int(alive.sum()) < count:
                return False
        for balance in self._analysis.balances:
            alive = ~dead[self._analysis.rows(balance.axis)].any(axis=1)
            counts = alive.reshape(balance.groups, -1).sum(axis=1)
            if (counts != counts[0]).any():
                return False
        return True


def shrink_without(analysis: Analysis, dead: Mask, gone: Collection[int], empty: Collection[str]) -> Shrunk:
    """Remove the positions of dead labels where they leave tensors empty, with the nodes in `gone`.

    `gone` are numbers of nodes of the main graph that nothing else needs once concatenations do without the tensors in
    `empty`; what only they needed goes too. The nodes of the result are in the places of the original's.
    """
    model = analysis.model.clone()
    nodes = list(model.graph.nodes)
    absent = {*gone, *(analysis.positions[id(n)] for g in gone for n in _bodies(analysis.nodes[g]))}
    detach([nodes[number] for number in gone])
    for number, node in enumerate(nodes):
        if number not in gone:
            for slot, tensor in enumerate(node.inputs):
                if tensor.name in empty:
                    set_input(node, slot, gs.Variable.empty())
    sites = {
        key: replace(use, sites=[site for site in use.sites if site[0] not in absent])
        for key, use in analysis.weights.items()
    }
    lost = {t.name for g in gone for t in analysis.nodes[g].outputs}
    seen = replace(
        analysis,
        model=model,
        weights={key: use for key, use in sites.items() if use.sites},
        restates=[restate for restate in analysis.restates if restate.node not in absent],
        bypassed={node: axis for node, axis in analysis.bypassed.items() if node not in absent},
        env={name: axes for name, axes in analysis.env.items() if name not in lost},
    )
    cut = shrink(seen, dead)
    for number in range(len(nodes)):
        if number not in gone:
            after = cut.nodes[number]
            before = analysis.nodes[number].inputs
            if any(tensor.name in empty for tensor in before):
                after.inputs = [
                    t for t, old in zip(after.inputs, before, strict=True) if old.name not in empty
                ]
    drop_unused(cut.model.graph)
    return cut


def _bodies(node: gs.Node) -> list[gs.Node]:
    return [inner for body in subgraphs_of(node) for inner in all_nodes(body)]


__all__ = ["Emptiness", "shrink_without"]
