"""What each layer became where a rewrite put other nodes in its place: read off the two graphs, told in a table.

A layer is followed by its weight, under every name that passes gave it, or by its output and its own name.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from graphrewrite import cost
from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_graphs, producer, subgraphs_of
from graphrewrite.ir.inline import inlined
from graphrewrite.ir.values import stored_type, tensor_bytes
from graphrewrite.report import text
from graphrewrite.report.layers import first_name, weight_of
from graphrewrite.report.plots import paired
from graphrewrite.report.record import Section

_LAYER = "layer"
_LEFT = (_LAYER, "operator", "weight")
_COSTS = ("MACs per sample", "bytes of constants")
_WHY = "why left alone"
_KINDS = 4  # operators that are named of those in a layer's place


@dataclass(frozen=True)
class Became:
    """One node that multiplied by a weight, in graph order, and the nodes in its place.

    `nodes` are their names, empty when the layer is gone, `ops` their operators. `shape_after` is the weight's shape
    where the operator is still the same, else None. MACs are for one sample; bytes are those of all constants that the
    nodes read.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    nodes: tuple[str, ...]
    ops: tuple[str, ...]
    shape_after: tuple[int, ...] | None
    macs_before: int
    macs_after: int
    bytes_before: int
    bytes_after: int

    @property
    def is_same(self) -> bool:
        """Whether operator, sizes and cost are what they were."""
        return self.ops == (self.op,) and (self.shape, self.macs_before, self.bytes_before) == (
            self.shape_after,
            self.macs_after,
            self.bytes_after,
        )


def became(before: Model, after: Model) -> tuple[Became, ...]:
    """Say of each layer of a model what stands in its place in another one that was made from it.

    Local functions are written out first. A node that serves two layers is told, and priced, with both.
    """
    old, new = inlined(before), inlined(after)
    macs, later = _macs(old), _macs(new)
    found = _Followed(old, new, macs)
    rows = []
    for node in old.graph.nodes:
        weight = weight_of(node)
        if weight is None or not macs[id(node)]:
            continue
        nodes = found.of(node, weight.name)
        alike = nodes[0] if len(nodes) == 1 and nodes[0].op == node.op else None
        twin = weight_of(alike) if alike is not None else None
        rows.append(
            Became(
                name=_name(node),
                op=node.op,
                shape=_shape(weight),
                nodes=tuple(_name(each) for each in nodes),
                ops=tuple(each.op for each in nodes),
                shape_after=_shape(twin) if twin is not None else None,
                macs_before=macs[id(node)],
                macs_after=sum(later[id(each)] for each in nodes),
                bytes_before=_bytes([node]),
                bytes_after=_bytes(nodes),
            )
        )
    return tuple(rows)


def section(rows: Sequence[Became], told: Mapping[str, Mapping[str, str]], why: Mapping[str, str]) -> Section:
    """Return the part of a page that has a row for each layer.

    `told` maps the name of a layer, or of a node in its place, to what its method says of it: title of a column ->
    text; names that are no layer's get rows of their own. `why` says of layers why they were left alone.
    """
    if not told and all(row.is_same for row in rows):
        return Section(
            "Layers", f"{text.plural(len(rows), 'layer')}, all with the operators and sizes they had."
        )
    own = dict.fromkeys(title for cells in told.values() for title in cells)
    lines = [
        _line(row, told, next((why[name] for name in (row.name, *row.nodes) if name in why), ""))
        for row in rows
    ]
    names = {name for row in rows for name in (row.name, *row.nodes)}
    lines += [{_LAYER: name, **cells} for name, cells in told.items() if name not in names]
    columns = [title for title in (*_LEFT, *own, *_COSTS, _WHY) if any(line.get(title, "") for line in lines)]
    worded = {title for cells in told.values() for title, cell in cells.items() if cell[:1].isalpha()}
    picture = paired(
        "became",
        [row.name for row in rows],
        {
            _COSTS[0]: [(row.macs_before, row.macs_after) for row in rows],
            _COSTS[1]: [(row.bytes_before, row.bytes_after) for row in rows],
        },
    )
    return Section(
        "Layers",
        picture=picture,
        columns=tuple(columns),
        rows=tuple(tuple(line.get(title, "").replace(" -> ", " → ") for title in columns) for line in lines),
        numbers=tuple(title for title in (*own, *_COSTS) if title not in worded),
    )


def _line(row: Became, told: Mapping[str, Mapping[str, str]], why: str) -> dict[str, str]:
    """Return title of a column -> text for one layer."""
    said: dict[str, str] = {}
    for name in dict.fromkeys((row.name, *row.nodes)):
        said.update({title: cell for title, cell in told.get(name, {}).items() if cell})
    ops = row.op if row.ops == (row.op,) else f"{row.op} -> {_ops(row.ops)}"
    shape = _from_to(text.shape(row.shape), text.shape(row.shape_after or row.shape))
    shape = shape.replace(", ", ",\N{NO-BREAK SPACE}")
    macs = _from_to(text.count(row.macs_before), text.count(row.macs_after))
    bytes_ = _from_to(text.size(row.bytes_before), text.size(row.bytes_after))
    return {
        **dict(zip((*_LEFT, *_COSTS, _WHY), (row.name, ops, shape, macs, bytes_, why), strict=True)),
        **said,
    }


class _Followed:
    """Finds what stands in the place of a layer."""

    def __init__(self, before: Model, after: Model, macs: Mapping[int, int]) -> None:
        self._after = after
        self._known = {
            tensor.name
            for tensor in (
                *before.graph.inputs,
                *(each for node in before.graph.nodes for each in node.outputs),
            )
        }
        self._priced = {number for number, count in macs.items() if count}
        self._order = {id(node): place for place, node in enumerate(after.graph.nodes)}
        self._named = {_name(node): node for node in after.graph.nodes}
        self._made = {tensor.name: node for node in after.graph.nodes for tensor in node.outputs}
        self._readers: dict[str, list[gs.Node]] = {}
        for node in after.graph.nodes:
            for tensor in node.inputs:
                if isinstance(tensor, gs.Constant):
                    self._readers.setdefault(first_name(after, tensor.name), []).append(node)

    def of(self, layer: gs.Node, weight: str) -> list[gs.Node]:
        """Return the nodes in place of a layer, in graph order."""
        readers = self._readers.get(weight, [])
        if readers:
            same = [node for node in readers if _name(node) == _name(layer) or _shares_output(node, layer)]
            return same or readers
        last = self._end(layer) or self._named.get(_name(layer))
        return sorted(self._behind(last), key=lambda node: self._order[id(node)]) if last is not None else []

    def _end(self, layer: gs.Node) -> gs.Node | None:
        """Return what writes a layer's output now, or the first result still there of what works on it alone."""
        node = layer
        while node.outputs[0].name not in self._made:
            users = node.outputs[0].outputs
            if len(users) != 1 or id(users[0]) in self._priced or not users[0].outputs:
                return None
            node = users[0]
            if sum(not isinstance(tensor, gs.Constant) for tensor in node.inputs) != 1:
                return None
        return self._made[node.outputs[0].name]

    def _behind(self, last: gs.Node) -> list[gs.Node]:
        """Return a node and those that feed it, as far back as tensors that were there before."""
        found, waiting = {id(last): last}, [last]
        while waiting:
            for tensor in waiting.pop().inputs:
                node = producer(tensor)
                if (
                    node is None
                    or tensor.name in self._known
                    or id(node) in found
                    or id(node) not in self._order
                ):
                    continue
                found[id(node)] = node
                waiting.append(node)
        return [node for node in found.values() if node.op != "Constant"]


def _shares_output(one: gs.Node, other: gs.Node) -> bool:
    return bool({tensor.name for tensor in one.outputs} & {tensor.name for tensor in other.outputs})


def _macs(model: Model) -> dict[int, int]:
    table = cost.of(model)
    return {
        id(node): round(priced.macs / table.batch)
        for node, priced in zip(model.graph.nodes, table.nodes, strict=True)
    }


def _bytes(nodes: Sequence[gs.Node]) -> int:
    constants = {id(constant): constant for node in nodes for constant in _constants(node)}
    return sum(tensor_bytes(stored_type(each), _shape(each)) for each in constants.values())


def _constants(node: gs.Node) -> Iterator[gs.Constant]:
    """Yield what a node reads of constants, also through `Constant` nodes and in its bodies."""
    inside = [each for graph in subgraphs_of(node) for body in all_graphs(graph) for each in body.nodes]
    for each in (node, *inside):
        for tensor in each.inputs:
            if isinstance(tensor, gs.Constant):
                yield tensor
            elif len(tensor.inputs) and tensor.inputs[0].op == "Constant":
                yield from (
                    value for value in tensor.inputs[0].attrs.values() if isinstance(value, gs.Constant)
                )


def _shape(tensor: gs.Tensor) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor.shape)


def _name(node: gs.Node) -> str:
    return str(node.name or node.outputs[0].name)


def _ops(ops: Sequence[str]) -> str:
    """Write operators in the order they first come, equal ones together: "2 Conv, Mul"."""
    if not ops:
        return "gone"
    counts = Counter(ops)
    shown = [op if number == 1 else f"{number} {op}" for op, number in list(counts.items())[:_KINDS]]
    rest = sum(list(counts.values())[_KINDS:])
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _from_to(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}"


__all__ = ["Became", "became", "section"]
