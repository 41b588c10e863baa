"""What a model costs while blocks are left out and put back: exact, and as fast as the blocks are small.

Every vertex counts who still reads it. Leaving a branch out takes one reader away from what makes it; a vertex
without readers dies, and takes a reader away from all it read. So what several branches shared (a mask, a tied weight)
goes with the last of them. Putting a branch back is the same backwards.

Two things are counted as if they stayed, so a budget on parameters is met with a little to spare: the gain of a norm
fused with a sum of which only the sum is still read, and a scalar that was a weight for those that went and a setting
for those that stay.

A branch of a concatenation also makes what reads the concatenation narrower; `Width` counts that.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from graphrewrite.passes.blocks.block import Blocks
from graphrewrite.passes.blocks.flow import Flow
from graphrewrite.passes.blocks.width import Width
from graphrewrite.passes.channels.budgets import Cost, Mask


class Readers:
    """Who is still read: the vertices of a flow while edges are cut and mended.

    Attributes:
        gone: what the dead vertices cost.
    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._readers = [len(r) + int(flow.returned[v]) for v, r in enumerate(flow.readers)]
        self._cut: Counter[tuple[int, int]] = Counter()
        self.gone: dict[Cost, float] = {"MACs": 0.0, "parameters": 0.0}

    def is_alive(self, vertex: int) -> bool:
        """Whether anything reads a vertex."""
        return self._readers[vertex] > 0

    def alive(self) -> Mask:
        """Return which vertices are read, [vertices]."""
        return np.array(self._readers) > 0

    def cut(self, edges: Sequence[tuple[int, int]]) -> list[int]:
        """Take (node, input) pairs away; return the vertices that died."""
        return [vertex for edge in edges for vertex in self._turn(*edge, -1)]

    def mend(self, edges: Sequence[tuple[int, int]]) -> list[int]:
        """Give (node, input) pairs back that were cut; return the vertices that live again."""
        return [vertex for edge in edges for vertex in self._turn(*edge, 1)]

    def _turn(self, join: int, slot: int, step: int) -> list[int]:
        maker = self._flow.vertex(self._flow.nodes[join].inputs[slot])
        assert maker is not None
        self._cut[maker, join] -= step
        return self._move(maker, step) if self.is_alive(join) else []

    def _move(self, vertex: int, step: int) -> list[int]:
        """Give a vertex a reader more or less, and follow those which that brings to life or lets die."""
        stack, turned = [vertex], []
        while stack:
            vertex = stack.pop()
            self._readers[vertex] += step
            if self._readers[vertex] != (1 if step > 0 else 0):
                continue
            turned.append(vertex)
            self.gone["MACs"] -= step * self._flow.macs[vertex]
            self.gone["parameters"] -= step * self._flow.params[vertex]
            if vertex < len(self._flow.nodes):
                stack.extend(self._read_by(vertex))
        return turned

    def _read_by(self, node: int) -> list[int]:
        """Return what a node reads, without branches that are left out of it."""
        sources = self._flow.sources[node]
        cut = {source: count for source in set(sources) if (count := self._cut[source, node])}
        if not cut:
            return sources
        kept = []
        for source in sources:
            if cut.get(source, 0):
                cut[source] -= 1
            else:
                kept.append(source)
        return kept


class Ledger:
    """Costs of a model without some of its blocks.

    Attributes:
        out: which blocks are left out, [blocks]; blocks inside them do not count as such.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._readers = Readers(blocks.flow)
        self._width: Width | None = blocks.width
        self._whole: dict[Cost, float] = {"MACs": blocks.table.macs, "parameters": blocks.table.params}
        self.out: Mask = np.zeros(len(blocks), dtype=bool)

    def left(self, cost: Cost) -> float:
        """Return what is left of a cost."""
        left = self._whole[cost] - self._readers.gone[cost]
        dead = self._dead()
        return (
            left
            if dead is None or self._width is None
            else left - self._width.saved(cost, dead, self._readers.alive())
        )

    def whole(self, cost: Cost) -> float:
        """Return a cost of the whole model."""
        return self._whole[cost]

    def leave_out(self, block: int) -> None:
        """Leave a block out."""
        assert not self.out[block]
        self.out[block] = True
        self._readers.cut(self._blocks.blocks[block].cuts)

    def put_back(self, block: int) -> None:
        """Put a block back that was left out."""
        assert self.out[block]
        self.out[block] = False
        self._readers.mend(self._blocks.blocks[block].cuts)

    def is_whole(self) -> bool:
        """Whether the model without these blocks is one: no concatenation that is still read lost all its operands."""
        dead = self._dead()
        return dead is None or self._width is None or self._width.allows(dead, self._readers.alive())

    def _dead(self) -> Mask | None:
        """Return the labels that die with the blocks left out, None where there are none."""
        chosen = [block for block, out in zip(self._blocks, self.out.tolist(), strict=True) if out]
        return None if self._width is None else self._width.labels(chosen)
