"""What leaving branches of concatenations out does to everything around them: it becomes narrower, or impossible."""

from collections.abc import Iterable

import numpy as np

from graphrewrite.dims.emptied import Emptiness
from graphrewrite.dims.structure import Floats, Mask, Structure, Terms
from graphrewrite.dims.sweep import Analysis
from graphrewrite.passes.blocks.block import Block
from graphrewrite.passes.blocks.flow import Flow
from graphrewrite.passes.channels.budgets import Cost


class Width:
    """The channels of an analysed model, as branches of concatenations take some away."""

    def __init__(self, analysis: Analysis, flow: Flow) -> None:
        self.analysis = analysis
        self.emptiness = Emptiness(analysis)
        self._structure = structure = Structure(analysis)
        self._terms: dict[Cost, Terms] = {"MACs": structure.macs, "parameters": structure.params}
        nodes = len(flow.nodes)
        places = {tensor.name: flow.vertex(tensor) for node in flow.nodes for tensor in node.inputs}
        held = [places.get(name) for name in structure.held]
        # What a body computes belongs to its node, whose cost the flow counts as a whole.
        self._vertex: dict[Cost, np.ndarray[tuple[int], np.dtype[np.int64]]] = {
            "MACs": np.where(structure.macs.nodes < nodes, structure.macs.nodes, -1),
            "parameters": np.array([-1 if vertex is None else vertex for vertex in held], dtype=np.int64),
        }
        counts = structure.alive_counts(structure.alive_rows(np.zeros(len(structure.units), dtype=bool)))
        self._full: dict[Cost, Floats] = {
            cost: structure.values(terms, counts) for cost, terms in self._terms.items()
        }

    def labels(self, blocks: Iterable[Block]) -> Mask | None:
        """Return a mask over all labels of those that die with these blocks, None where none do."""
        found = [block.labels for block in blocks if block.labels is not None]
        if not found:
            return None
        dead = np.zeros(self.analysis.labels.count, dtype=bool)
        dead[np.concatenate(found)] = True
        return dead

    def saved(self, cost: Cost, dead: Mask, alive: Mask) -> float:
        """Return what vertices that stay (`alive` [vertices]) save because labels die."""
        structure, vertex = self._structure, self._vertex[cost]
        counts = structure.alive_counts(structure.alive_rows(dead[structure.units]))
        less = self._full[cost] - structure.values(self._terms[cost], counts)
        return float(less[(vertex < 0) | alive[vertex]].sum())

    def allows(self, dead: Mask, alive: Mask) -> bool:
        """Whether nothing that stays needs a tensor or weight that loses all its positions."""
        tensors, readers = self.emptiness.of(dead)
        makers = {self.emptiness.maker.get(name, -1) for name in tensors} | readers
        return -1 not in makers and not any(alive[list(makers)]) and self.emptiness.is_balanced(dead)


__all__ = ["Width"]
