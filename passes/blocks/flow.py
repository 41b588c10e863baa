"""Which nodes and weights work for one place only: post-dominators of a graph, in one backward sweep.

A vertex is a node (numbered in graph order) or a constant of the main graph. It *serves* another when every way from
it to an output of the model leads through that one. What serves the producer of a tensor that only one node reads is
exactly what that reader alone keeps alive.
"""

from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.cost import CostTable
from graphrewrite.cost.registry import key_of
from graphrewrite.cost.weights import held_by, weight_numbers
from graphrewrite.dims.labels import Ints
from graphrewrite.ir import Model
from graphrewrite.ir.edit import captured


class Flow:
    """The main graph as numbered vertices with their readers and costs.

    Attributes:
        nodes: the nodes of the main graph, in order.
        readers: per vertex, the numbers of the nodes that read it, once for each time they do.
        sources: per node, the vertices it reads (bodies included).
        fixed: whether what a vertex makes comes from constants alone.
        returned: whether a vertex makes an output of the model.
        is_made: whether products have a part in what a vertex makes.
        macs, params: cost of each vertex itself, [vertices]; the numbers of a constant belong to the constant.
    """

    def __init__(self, model: Model, table: CostTable) -> None:
        graph = model.graph
        self.nodes: list[gs.Node] = list(graph.nodes)
        self._maker = {id(tensor): i for i, node in enumerate(self.nodes) for tensor in node.outputs}
        self._constants: list[gs.Constant] = []
        self.sources: list[list[int]] = []
        self.readers: list[list[int]] = [[] for _ in self.nodes]
        brought = [0.0] * len(self.nodes)
        numbers: dict[int, int] = {}
        for index, node in enumerate(self.nodes):
            key = key_of(node.domain, node.op)
            for slot, tensor in enumerate(node.inputs):
                held = held_by(tensor, "")
                vertex = self.vertex(tensor)
                if held is None or vertex is None:
                    continue
                count = weight_numbers(node, key, slot, held)
                numbers[vertex] = max(numbers.get(vertex, 0), count)
                brought[index] += count  # the table counts what comes in twice, twice
            found = [self.vertex(tensor) for tensor in (*node.inputs, *captured(node))]
            self.sources.append([vertex for vertex in found if vertex is not None])
            for vertex in self.sources[-1]:
                self.readers[vertex].append(index)
        count = len(self.readers)
        self.macs = np.zeros(count)
        self.params = np.zeros(count)
        for index, row in enumerate(table.nodes):
            self.macs[index] = row.macs
            self.params[index] = max(row.params - brought[index], 0)  # weights inside its bodies
        for vertex, amount in numbers.items():
            self.params[vertex] = amount
        self.is_made = self.macs > 0
        for index, sources in enumerate(self.sources):
            self.is_made[index] |= bool(self.is_made[sources].any())
        self.returned = np.zeros(count, dtype=bool)
        self.fixed = [False] * len(self.nodes) + [True] * len(self._constants)
        for index, node in enumerate(self.nodes):
            given = [self.vertex(tensor) for tensor in node.inputs if tensor.name]
            known = all(vertex is not None and self.fixed[vertex] for vertex in given)
            self.fixed[index] = known and (bool(given) or node.op == "Constant")
        for tensor in graph.outputs:
            vertex = self.vertex(tensor)
            if vertex is not None:
                self.returned[vertex] = True
        self._rank()
        self.readers = [[r for r in readers if self.is_used(r)] for readers in self.readers]

    def vertex(self, tensor: gs.Tensor) -> int | None:
        """Return the vertex that makes a tensor; None for inputs of the model and tensors of bodies."""
        known = self._maker.get(id(tensor))
        if known is None and isinstance(tensor, gs.Constant):
            known = self._maker[id(tensor)] = len(self.readers)
            self._constants.append(tensor)
            self.readers.append([])
        return known

    def constant(self, vertex: int) -> gs.Constant | None:
        """Return the constant a vertex stands for, None for a node."""
        return self._constants[vertex - len(self.nodes)] if vertex >= len(self.nodes) else None

    def serving(self, node: int) -> Ints:
        """Return a node and everything that serves it, in graph order, constants last."""
        start = int(self._place[node])
        return np.sort(self._by_place[start : start + int(self._size[node])])

    def is_used(self, vertex: int) -> bool:
        """Whether an output of the model depends on a vertex."""
        return bool(self._place[vertex] >= 0)

    def interval(self, node: int) -> tuple[int, int]:
        """Return (begin, end) such that a node serves another, or is it, where its interval lies within the other's."""
        return int(self._place[node]), int(self._place[node] + self._size[node])

    def is_fixed(self, tensor: gs.Tensor) -> bool:
        """Whether a tensor comes from constants alone."""
        vertex = self.vertex(tensor)
        return vertex is not None and self.fixed[vertex]

    def total(self, node: int) -> tuple[float, float]:
        """Return (MACs, parameters) of a node and everything that serves it."""
        return float(self._macs[node]), float(self._params[node])

    def _rank(self) -> None:
        """Find each vertex's nearest post-dominator, and number the tree of them so that subtrees are intervals."""
        count, sink = len(self.readers), len(self.readers)
        above = [-1] * (count + 1)  # -1: no output depends on it
        above[sink] = sink
        for vertex in self._backward():
            found = sink if self.returned[vertex] else -1
            for reader in self.readers[vertex]:
                if above[reader] < 0:
                    continue
                found = reader if found < 0 else self._meet(found, reader, above, sink)
            above[vertex] = found
        self._size = np.ones(count + 1, dtype=np.int64)
        self._macs, self._params = np.append(self.macs, 0.0), np.append(self.params, 0.0)
        alive = [vertex for vertex in self._backward() if above[vertex] >= 0]
        for vertex in reversed(alive):
            for sums in (self._size, self._macs, self._params):
                sums[above[vertex]] += sums[vertex]
        self._place = np.full(count + 1, -1, dtype=np.int64)
        self._place[sink] = 0
        free = np.ones(count + 1, dtype=np.int64)
        for vertex in alive:
            self._place[vertex] = free[above[vertex]]
            free[above[vertex]] += self._size[vertex]
            free[vertex] = self._place[vertex] + 1
        self._by_place = np.zeros(len(alive) + 1, dtype=np.int64)
        self._by_place[self._place[alive]] = alive

    def _backward(self) -> Iterator[int]:
        """Yield vertices after all their readers."""
        yield from range(len(self.nodes) - 1, -1, -1)
        yield from range(len(self.nodes), len(self.readers))

    @staticmethod
    def _meet(a: int, b: int, above: list[int], sink: int) -> int:
        """Return the first vertex on both ways to the sink; it has the larger number of any two on the way."""
        while a != b:
            if a == sink or (b != sink and b < a):
                b = above[b]
            else:
                a = above[a]
        return a


__all__ = ["Flow"]
