"""What a model costs while blocks are left out and put back: exact, and as fast as the blocks are small.

Every vertex counts who still reads it. Leaving a branch out takes one reader away from what makes it; a vertex
without readers dies, and takes a reader away from all it read. So what several branches shared (a mask, a tied weight)
goes with the last of them. Putting a branch back is the same backwards.
"""

from collections import Counter

import numpy as np

from graphrewrite.passes.blocks.find import Blocks
from graphrewrite.passes.channels.budgets import Cost, Mask


class Ledger:
    """Costs of a model without some of its blocks.

    Attributes:
        out: which blocks are left out, [blocks]; blocks inside them do not count as such.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._flow = flow = blocks.flow
        self._makers = [flow.vertex(flow.nodes[b.join].inputs[b.slot]) for b in blocks]
        self._joins = [block.join for block in blocks]
        self._readers = [len(r) + int(flow.returned[v]) for v, r in enumerate(flow.readers)]
        self._cut: Counter[tuple[int, int]] = Counter()
        self._whole: dict[Cost, float] = {"MACs": blocks.table.macs, "parameters": blocks.table.params}
        self._gone: dict[Cost, float] = {"MACs": 0.0, "parameters": 0.0}
        self.out: Mask = np.zeros(len(blocks), dtype=bool)

    def left(self, cost: Cost) -> float:
        """Return what is left of a cost."""
        return self._whole[cost] - self._gone[cost]

    def whole(self, cost: Cost) -> float:
        """Return a cost of the whole model."""
        return self._whole[cost]

    def leave_out(self, block: int) -> None:
        """Leave a block out."""
        assert not self.out[block]
        self.out[block] = True
        self._turn(block, -1)

    def put_back(self, block: int) -> None:
        """Put a block back that was left out."""
        assert self.out[block]
        self.out[block] = False
        self._turn(block, 1)

    def _turn(self, block: int, step: int) -> None:
        maker, join = self._makers[block], self._joins[block]
        assert maker is not None
        self._cut[maker, join] -= step
        if self._alive(join):
            self._move(maker, step)

    def _alive(self, vertex: int) -> bool:
        return self._readers[vertex] > 0

    def _move(self, vertex: int, step: int) -> None:
        """Give vertices a reader more or less, and follow those which that brings to life or lets die."""
        stack = [vertex]
        while stack:
            vertex = stack.pop()
            self._readers[vertex] += step
            if self._readers[vertex] != (1 if step > 0 else 0):
                continue
            self._gone["MACs"] -= step * self._flow.macs[vertex]
            self._gone["parameters"] -= step * self._flow.params[vertex]
            if vertex < len(self._flow.nodes):
                stack.extend(self._read_by(vertex))

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
