"""Branches of concatenations: operands that can be left out whole, with what makes them and all that reads them.

The operand of an Inception module, a layer of a dense block, a level of a pyramid pooling: its channels are a window
of the joined axis, and the layers behind read it as some of their input channels. When all of these channels die, what
makes them has nothing left to make, and every concatenation they enter does without the operand. That is possible when
nothing else needs them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.labels import Ints
from graphrewrite.dims.sweep import Analysis
from graphrewrite.ir.domains import domain_name
from graphrewrite.passes.blocks.block import Block
from graphrewrite.passes.blocks.flow import Flow
from graphrewrite.passes.blocks.ledger import Readers
from graphrewrite.passes.blocks.width import Width


class Found(NamedTuple):
    """The branches, why other operands with products of their own are none, and what counts their width."""

    blocks: list[Block]
    left: dict[str, str]
    width: Width | None


class _Candidate(NamedTuple):
    """An operand of a concatenation: its window of the joined axis, [positions, labels], and the labels in it alone."""

    node: int
    slot: int
    axis: int
    labels: Ints


def find_branches(analysis: Analysis, flow: Flow) -> Found:
    """Find the branches of the concatenations in the main graph of an analysed model."""
    joins = [index for index, node in enumerate(flow.nodes) if _is_join(flow, index, node)]
    candidates = [c for index in joins for c in _operands(analysis, flow, index)]
    if not candidates:
        return Found([], {}, None)
    width = Width(analysis, flow)
    search = _Search(analysis, flow, width, joins)
    blocks = [block for c in sorted(candidates, key=_order) if (block := search.block(c)) is not None]
    blocks.sort(key=lambda block: (block.cuts[0], block.name))
    return Found(search.with_streams(blocks), search.left, width)


def _order(candidate: _Candidate) -> tuple[int, int, int]:
    return len(candidate.labels), candidate.node, candidate.slot


def _is_join(flow: Flow, index: int, node: gs.Node) -> bool:
    plain = not domain_name(node.domain) and node.op == "Concat" and len(node.inputs) > 1
    return plain and flow.is_used(index)


def _operands(analysis: Analysis, flow: Flow, index: int) -> Iterator[_Candidate]:
    """Yield the operands of a concatenation that have labels of their own, and products."""
    node = flow.nodes[index]
    result = analysis.env.get(node.outputs[0].name)
    if result is None:
        return
    number = int(node.attrs["axis"]) % len(result)
    parts: list[Ints] = []
    for tensor in node.inputs:
        axes = analysis.env.get(tensor.name)
        static = axes is not None and axes[number].is_static and not axes[number].is_rigid
        parts.append(
            analysis.rows(axes[number]) if static and axes is not None else np.zeros((0, 1), np.int64)
        )
    for slot, (tensor, rows) in enumerate(zip(node.inputs, parts, strict=True)):
        maker = flow.vertex(tensor)
        if maker is None or not len(rows) or flow.fixed[maker]:
            continue
        free = np.where(analysis.labels.pin_number(rows) > 0, 0, rows)
        if rows.shape[1] > 1:
            others = np.concatenate([part.ravel() for i, part in enumerate(parts) if i != slot])
            free = np.where(np.isin(free, others), 0, free)
        if (free > 0).any(axis=1).all():
            yield _Candidate(index, slot, number, np.unique(free[free > 0]))


class _Search:
    """One look at all candidates, smallest first."""

    def __init__(self, analysis: Analysis, flow: Flow, width: Width, joins: Sequence[int]) -> None:
        self.analysis = analysis
        self.flow = flow
        self.width = width
        self.left: dict[str, str] = {}
        self._readers = Readers(flow)
        self._joins = joins
        self._seen: set[bytes] = set()
        self._owner: dict[int, list[Block]] = {}

    def block(self, candidate: _Candidate) -> Block | None:
        """Return the block that a candidate is, None where it is none or is known."""
        key = candidate.labels.tobytes()
        if key in self._seen:
            return None
        self._seen.add(key)
        node, tensor = self.flow.nodes[candidate.node], self.flow.nodes[candidate.node].inputs[candidate.slot]
        dead = np.zeros(self.analysis.labels.count, dtype=bool)
        dead[candidate.labels] = True
        empty, _ = self.width.emptiness.of(dead)
        cuts = tuple(
            (index, slot)
            for index in self._joins
            if self.flow.nodes[index].outputs[0].name not in empty
            for slot, operand in enumerate(self.flow.nodes[index].inputs)
            if operand.name in empty
        )
        died = self._readers.cut(cuts)
        alive = self._readers.alive()
        possible = self.width.allows(dead, alive)
        macs, params = (float(costs[died].sum()) for costs in (self.flow.macs, self.flow.params))
        if possible:
            macs += self.width.saved("MACs", dead, alive)
            params += self.width.saved("parameters", dead, alive)
        self._readers.mend(cuts)
        makers = [self.flow.vertex(self.flow.nodes[i].inputs[slot]) for i, slot in cuts]
        if (candidate.node, candidate.slot) not in cuts:  # what it enters would go with it
            return None
        if not possible:
            maker = self.flow.vertex(tensor)
            # What others read too is the trunk of something, and nobody expects it to go.
            if maker is not None and self.flow.total(maker)[0] and len(self.flow.readers[maker]) == 1:
                self.left[f"{_label(node)}[{candidate.slot}]"] = (
                    f"its branch {tensor.name!r} cannot go whole: its channels are needed elsewhere too"
                )
            return None
        if not self.flow.macs[died].any() or not self._nests(candidate, makers):
            return None
        return self._made(candidate, cuts, died, macs, params)

    def _nests(self, candidate: _Candidate, makers: Sequence[int | None]) -> bool:
        """Whether the smaller blocks that share labels lie inside this one."""
        spans = [self.flow.interval(maker) for maker in makers if maker is not None]
        inner = {id(b): b for label in candidate.labels.tolist() for b in self._owner.get(label, ())}
        for block in inner.values():
            begin, end = self.flow.interval(block.nodes[-1])
            if len(spans) != 1 or not (spans[0][0] <= begin and end <= spans[0][1]):
                return False
        return True

    def _made(
        self,
        candidate: _Candidate,
        cuts: tuple[tuple[int, int], ...],
        died: list[int],
        macs: float,
        params: float,
    ) -> Block:
        node, count = self.flow.nodes[candidate.node], len(self.flow.nodes)
        first = cuts.index((candidate.node, candidate.slot))
        tensor = node.inputs[candidate.slot]
        block = Block(
            name=f"{_label(node)}[{candidate.slot}]",
            cuts=(cuts[first], *cuts[:first], *cuts[first + 1 :]),
            branch=tensor.name,
            trunk=next(t.name for t in node.inputs if t is not tensor),
            result=node.outputs[0].name,
            stream=node.outputs[0].name,
            nodes=tuple(sorted(v for v in died if v < count)),
            weights=tuple(c.name for v in sorted(died) if (c := self.flow.constant(v)) is not None),
            axis=candidate.axis,
            macs=macs,
            params=params,
            labels=candidate.labels,
        )
        for label in candidate.labels.tolist():
            self._owner.setdefault(label, []).append(block)
        return block

    def with_streams(self, blocks: list[Block]) -> list[Block]:
        """Return the blocks with their streams: concatenations that carry the same channels are one."""
        first: dict[int, int] = {}
        parent = {index: index for index in self._joins}

        def root(index: int) -> int:
            while parent[index] != index:
                parent[index] = index = parent[parent[index]]
            return index

        marks = {int(block.labels[0]): n for n, block in enumerate(blocks) if block.labels is not None}
        for index in self._joins:
            for mark in self._carried(index, marks):
                a, b = root(index), root(first.setdefault(marks[mark], index))
                parent[max(a, b)] = min(a, b)
        streams = {n: self.flow.nodes[root(index)].outputs[0].name for n, index in first.items()}
        return [replace(block, stream=streams.get(n, block.stream)) for n, block in enumerate(blocks)]

    def _carried(self, index: int, marks: dict[int, int]) -> list[int]:
        """Return which of some labels lie on the joined axis of a concatenation."""
        node = self.flow.nodes[index]
        axes = self.analysis.env.get(node.outputs[0].name)
        axis = None if axes is None else axes[int(node.attrs["axis"]) % len(axes)]
        if axis is None or axis.is_rigid or not axis.is_static:
            return []
        return [label for label in np.unique(self.analysis.rows(axis)).tolist() if label in marks]


def _label(node: gs.Node) -> str:
    return str(node.name or node.outputs[0].name)


__all__ = ["Found", "find_branches"]
