"""Residual blocks of any graph: branches of a sum that are functions of what they are added to.

Nothing is recognised by name. A sum (Add, Sum, Sub, and trees of them) has a *trunk*, the operand the others are
computed from, and the model is still whole when an operand computed from the trunk is left out: the sum becomes what
remains. Everything that served only this operand goes with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.cost import CostTable
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.sweep import Analysis
from graphrewrite.ir.edit import producer, subgraphs_of
from graphrewrite.passes.blocks.block import Block, Blocks
from graphrewrite.passes.blocks.branches import find_branches
from graphrewrite.passes.blocks.flow import Flow
from graphrewrite.passes.blocks.joins import is_normed, is_plain, obstacle, results, summed


def find(analysis: Analysis, table: CostTable) -> Blocks:
    """Find the blocks of an analysed model; `table` holds its costs in sample world A."""
    flow = Flow(analysis.model, table)
    search = _Search(analysis, flow)
    found = search.run()
    branches = find_branches(analysis, flow)
    blocks = _nested([*found, *branches.blocks], flow)
    return Blocks(analysis, flow, table, blocks, {**search.left, **branches.left}, branches.width)


@dataclass(frozen=True)
class _Operand:
    """An input of a sum in a tree of sums: `leaves` are the tensors that are not sums of the tree, under it."""

    node: int
    slot: int
    tensor: gs.Tensor
    leaves: tuple[int, ...]


class _Search:
    """One search through all sums of a graph."""

    def __init__(self, analysis: Analysis, flow: Flow) -> None:
        self.analysis = analysis
        self.info = analysis.info
        self.flow = flow
        self.left: dict[str, str] = {}
        self._streams: dict[object, str] = {}
        self._inner: set[int] = set()

    def run(self) -> list[Block]:
        """Return the blocks in graph order."""
        roots = []
        for index in range(len(self.flow.nodes) - 1, -1, -1):
            node = self.flow.nodes[index]
            if index in self._inner or not summed(node) or not self.flow.is_used(index):
                continue
            roots.append((index, *self._tree(index)))
        return [
            block
            for index, operands, leaves in reversed(roots)
            for block in self._blocks(index, operands, leaves)
        ]

    # --- trees of sums --------------------------------------------------------------------------------------------

    def _tree(self, root: int) -> tuple[list[_Operand], list[gs.Tensor]]:
        """Return the operands of a sum, those of sums within it included, and the tensors that are summed."""
        leaves: list[gs.Tensor] = []
        operands: list[_Operand] = []
        shape = self.info.shape(self.flow.nodes[root].outputs[0].name)

        def descend(index: int) -> None:
            for slot in summed(self.flow.nodes[index]):
                tensor = self.flow.nodes[index].inputs[slot]
                begin, inner = len(leaves), self._sum_within(tensor, shape)
                if inner is None or self.flow.nodes[root].op == "Sub":
                    leaves.append(tensor)
                else:
                    self._inner.add(inner)
                    descend(inner)
                operands.append(_Operand(index, slot, tensor, tuple(range(begin, len(leaves)))))

        descend(root)
        return operands, leaves

    def _sum_within(self, tensor: gs.Tensor, shape: object) -> int | None:
        """Return the sum that makes a tensor if nobody else reads it and nothing is broadcast in it."""
        index = self.flow.vertex(tensor)
        if index is None or index >= len(self.flow.nodes) or not self._read_once(index):
            return None
        node = self.flow.nodes[index]
        plain = is_plain(node) and node.op in ("Add", "Sum") and shape is not None
        whole = all(self.info.shape(t.name) == shape and not self.flow.is_fixed(t) for t in node.inputs)
        return index if plain and whole else None

    def _read_once(self, vertex: int) -> bool:
        return len(self.flow.readers[vertex]) == 1 and not self.flow.returned[vertex]

    # --- blocks ---------------------------------------------------------------------------------------------------

    def _blocks(self, root: int, operands: list[_Operand], leaves: list[gs.Tensor]) -> Iterator[Block]:
        result = results(self.flow.nodes[root])[0]
        found: list[tuple[_Operand, gs.Tensor]] = []
        for operand in operands:
            trunk = self._trunk(root, operand, leaves)
            if trunk is not None:
                found.append((operand, trunk))
        why = obstacle(self.flow.nodes[root], self.analysis.model.opset, bool(self.flow.returned[root]))
        if found and why:
            self.left[self.flow.nodes[root].name or result.name] = why
            return
        single = {o.leaves[0] for o, _ in found if len(o.leaves) == 1}
        label = self.flow.nodes[root].name or result.name
        count = 0
        for operand, trunk in found:
            if len(operand.leaves) > 1 and not self._adds_something(operand, operands, single):
                continue
            count += 1
            yield self._block(label if count == 1 else f"{label}#{count}", root, operand, trunk)

    def _adds_something(self, operand: _Operand, operands: list[_Operand], single: set[int]) -> bool:
        """Whether leaving a sum within the tree out saves more than leaving its own operands out."""
        alone = [o for o in operands if len(o.leaves) == 1 and o.leaves[0] in operand.leaves]
        if not single.issuperset(operand.leaves):
            return True
        parts = sum(self._saving(o) for o in alone)
        return self._saving(operand) > parts

    def _saving(self, operand: _Operand) -> float:
        maker = self.flow.vertex(operand.tensor)
        return 0.0 if maker is None else self.flow.total(maker)[0]

    def _trunk(self, root: int, operand: _Operand, leaves: list[gs.Tensor]) -> gs.Tensor | None:
        """Return the summed tensor that an operand is computed from, None where there is no such thing."""
        node = self.flow.nodes[root]
        maker = self.flow.vertex(operand.tensor)
        if maker is None or maker >= len(self.flow.nodes) or not self._read_once(maker):
            return None
        if not self.flow.total(maker)[0]:  # nothing to gain: a rotary half, an activation written out
            return None
        if node.op == "Sub" and operand.slot == 0:
            return None
        result = results(node)[0]
        whole = self.info.shape(result.name)
        trunks = [
            t
            for i, t in enumerate(leaves)
            if i not in operand.leaves
            and not self.flow.is_fixed(t)
            and whole is not None
            and self.info.shape(t.name) == whole
        ]
        chains = {id(above): (t, above) for t in trunks for above in self._carried(t)}
        hit = self._ancestor(maker, {key: above for key, (_, above) in chains.items()})
        if hit is None:
            return next((t for t in trunks if self._is_shared(t)), None)
        trunk, entry = chains[id(hit)]
        if entry is not trunk and not self._agree(entry.name, result.name):
            self.left[node.name or result.name] = f"its shortcut from {entry.name!r} moves channels about"
            return None
        return trunk

    def _carried(self, tensor: gs.Tensor) -> Iterator[gs.Tensor]:
        """Yield a tensor and what it was before steps that carry it along: views, norms, activations, one at a time.

        A sum with its norm gives both: each is what the other was made from, or is made of.
        """
        size = self._size(tensor)
        while size is not None and self._size(tensor) == size:
            yield tensor
            node = producer(tensor)
            if node is not None and is_normed(node):
                yield from (t for t in results(node) if t is not tensor)
            before = self._before(tensor)
            if before is None:
                return
            tensor = before

    def _is_shared(self, tensor: gs.Tensor) -> bool:
        """Whether a stream with layers behind it, which others read too, comes in here, if through views or norms.

        What is added to it can go although it comes from elsewhere: a resolution that is mixed into another, a lateral
        layer of a pyramid.
        """
        seen: gs.Tensor | None = tensor
        while seen is not None:
            vertex = self.flow.vertex(seen)
            if vertex is None or not self._is_float(seen.name):
                return False
            if len(self.flow.readers[vertex]) > 1:
                return bool(self.flow.is_made[vertex])
            seen = self._before(seen)
        return False

    def _before(self, tensor: gs.Tensor) -> gs.Tensor | None:
        """Return the one floating tensor that a node without products makes this one from."""
        node = producer(tensor)
        index = self.flow.vertex(tensor)
        if node is None or index is None or self.flow.macs[index] or any(True for _ in subgraphs_of(node)):
            return None
        data = [t for t in node.inputs if t.name and not self.flow.is_fixed(t) and self._is_float(t.name)]
        return data[0] if len({id(t) for t in data}) == 1 else None

    def _is_float(self, name: str) -> bool:
        dtype = self.info.dtype(name)
        return dtype is None or np.dtype(dtype).kind not in "iub" or np.dtype(dtype).itemsize == 1

    def _size(self, tensor: gs.Tensor) -> tuple[int, int] | None:
        sizes = [self.info.sizes(tensor.name, world) for world in (0, 1)]
        return None if sizes[0] is None or sizes[1] is None else (prod(sizes[0]), prod(sizes[1]))

    def _ancestor(self, node: int, targets: dict[int, gs.Tensor]) -> gs.Tensor | None:
        """Return one of some tensors that a node depends on: the first that a search backwards meets."""
        if not targets:
            return None
        makers = [self.flow.vertex(tensor) for tensor in targets.values()]
        oldest = min((-1 if maker is None else maker for maker in makers), default=-1)
        seen, queue = {node}, [node]
        for index in queue:
            for tensor in self.flow.nodes[index].inputs:
                if id(tensor) in targets:
                    return targets[id(tensor)]
            for source in self.flow.sources[index]:
                if oldest <= source < len(self.flow.nodes) and source not in seen:
                    seen.add(source)
                    queue.append(source)
        return None

    def _agree(self, a: str, b: str) -> bool:
        """Whether two tensors have the same channels in the same order, on whichever axes they lie."""
        first, second = ([rows for _, rows in self._channels(name)] for name in (a, b))
        return len(first) == len(second) and all(map(np.array_equal, first, second))

    def _channels(self, name: str) -> list[tuple[int, Ints]]:
        """Return the axes of a tensor with labels, those that are not pinned altogether if there are any."""
        free: list[tuple[int, Ints]] = []
        pinned: list[tuple[int, Ints]] = []
        for number, axis in enumerate(self.analysis.env.get(name) or ()):
            if not axis.is_rigid:
                rows = self.analysis.rows(axis)
                stuck = ((rows == 0) | (self.analysis.labels.pin_number(rows) > 0)).all()
                (pinned if stuck else free).append((number, rows))
        return free or pinned

    def _block(self, name: str, root: int, operand: _Operand, trunk: gs.Tensor) -> Block:
        maker = self.flow.vertex(operand.tensor)
        assert maker is not None
        serving = [int(vertex) for vertex in self.flow.serving(maker)]
        result = results(self.flow.nodes[root])[0]
        channels = self._channels(result.name)
        macs, params = self.flow.total(maker)
        constants = [c.name for v in serving if (c := self.flow.constant(v)) is not None]
        nodes = tuple(v for v in serving if v < len(self.flow.nodes))
        return Block(
            name=name,
            cuts=((operand.node, operand.slot),),
            branch=operand.tensor.name,
            trunk=trunk.name,
            result=result.name,
            stream=self._stream(trunk, result.name, channels),
            nodes=nodes,
            weights=tuple(constants),
            axis=channels[0][0] if len(channels) == 1 else None,
            macs=macs,
            params=params,
            shared=self._shared(nodes, trunk),
        )

    def _stream(self, trunk: gs.Tensor, result: str, channels: list[tuple[int, Ints]]) -> str:
        """Return where the run of sums with these channels and sizes begins."""
        *_, start = self._carried(trunk)
        labels = tuple(rows.tobytes() for _, rows in channels)
        sizes = self.info.sizes(result)
        name = self._streams.setdefault((labels or start.name, sizes), start.name)
        if not labels:  # no weight makes channels here: follow the sums
            self._streams[(result, sizes)] = name
        return name

    def _shared(self, nodes: tuple[int, ...], trunk: gs.Tensor) -> tuple[str, ...]:
        """Return what the branch computes from its trunk with products, but others read too."""
        own = set(nodes)
        names: dict[str, None] = {}
        for index in nodes:
            for tensor in self.flow.nodes[index].inputs:
                maker = self.flow.vertex(tensor)
                if maker is None or maker in own or maker >= len(self.flow.nodes) or tensor is trunk:
                    continue
                if self.flow.total(maker)[0] and self._ancestor(maker, {id(trunk): trunk}) is not None:
                    names[tensor.name] = None
        return tuple(names)


def _nested(blocks: list[Block], flow: Flow) -> tuple[Block, ...]:
    """Fill in which block lies directly inside which."""
    spans = [flow.interval(block.nodes[-1]) for block in blocks]
    result = list(blocks)
    around: list[int] = []
    for number in sorted(range(len(blocks)), key=lambda i: (spans[i][0], -spans[i][1])):
        while around and spans[around[-1]][1] <= spans[number][0]:
            around.pop()
        if around:
            result[number] = replace(blocks[number], inside=around[-1])
        around.append(number)
    return tuple(result)
