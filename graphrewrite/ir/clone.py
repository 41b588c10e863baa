"""Copies in O(nodes): new nodes and tensors, the same arrays.

Copies go past the constructors of `gs`, which spend most of their time on bookkeeping a copy does not need.
"""

from collections.abc import Iterable, Iterator, Mapping

import onnx_graphsurgeon as gs
from onnx_graphsurgeon.util.misc import SynchronizedList

# A list that begins with one of these holds nothing else.
_NUMBERS = frozenset({int, float})


def clone_graph(graph: gs.Graph, outer: Mapping[int, gs.Tensor] | None = None) -> gs.Graph:
    """Copy a graph and its subgraphs; tensors are new objects under the same names, arrays are shared.

    `outer` maps the id of a tensor around the graph to the tensor that a copy shall use in its place.
    """
    twins = _Twins(outer or {})
    initializers = {name: twins.own(constant) for name, constant in graph.initializers.items()}
    inputs = [twins.own(tensor) for tensor in graph.inputs]
    # All outputs first: a body may come before the node whose output it captures when the graph is not sorted.
    made = [[twins.own(tensor) for tensor in node.outputs] for node in graph.nodes]
    result = gs.Graph(inputs=inputs, name=graph.name, doc_string=graph.doc_string, opset=graph.opset)
    result.nodes = [
        _clone_node(node, twins, outputs) for node, outputs in zip(graph.nodes, made, strict=True)
    ]
    result.outputs = [twins.read(tensor) for tensor in graph.outputs]
    result.initializers = initializers
    result.shell = graph.shell
    return result


class _Twins(Mapping[int, gs.Tensor]):
    """The copy of each tensor by the original's id: those of this graph, then those of the graphs around it."""

    def __init__(self, outer: Mapping[int, gs.Tensor]) -> None:
        self._own: dict[int, gs.Tensor] = {}
        self._outer = outer

    def __getitem__(self, key: int) -> gs.Tensor:
        found = self._own.get(key)
        return self._outer[key] if found is None else found

    def __iter__(self) -> Iterator[int]:
        yield from self._own
        yield from self._outer

    def __len__(self) -> int:
        return len(self._own) + len(self._outer)

    def own(self, tensor: gs.Tensor) -> gs.Tensor:
        """Return the copy of a tensor that belongs to this graph."""
        found = self._own.get(id(tensor))
        if found is None:
            found = self._own[id(tensor)] = _clone_tensor(tensor)
        return found

    def read(self, tensor: gs.Tensor) -> gs.Tensor:
        """Return what stands for a tensor that is read in this graph."""
        found = self._own.get(id(tensor))
        if found is None:
            found = self._outer.get(id(tensor))
        return self.own(tensor) if found is None else found


def _clone_node(node: gs.Node, twins: _Twins, outputs: list[gs.Tensor]) -> gs.Node:
    copy = gs.Node.__new__(gs.Node)
    fields = copy.__dict__
    fields.update(node.__dict__)
    fields["attrs"] = {name: clone_attribute(value, twins) for name, value in node.attrs.items()}
    inputs = [twins.read(tensor) for tensor in node.inputs]
    fields["inputs"] = _wired(copy, "outputs", inputs)
    fields["outputs"] = _wired(copy, "inputs", outputs)
    for tensor in inputs:
        list.append(tensor.outputs, copy)
    for tensor in outputs:
        list.append(tensor.inputs, copy)
    return copy


def _wired(owner: gs.Node | gs.Tensor, field: str, items: Iterable[gs.Tensor]) -> SynchronizedList:
    """Return a list that goes on telling its items; those it begins with have to be told by the caller."""
    made: SynchronizedList = SynchronizedList.__new__(SynchronizedList)
    made.parent_obj, made.field_name = owner, field
    list.extend(made, items)
    return made


def _clone_tensor(tensor: gs.Tensor) -> gs.Tensor:
    copy: gs.Tensor = object.__new__(type(tensor))
    fields = copy.__dict__
    fields.update(tensor.__dict__)
    fields["inputs"] = _wired(copy, "outputs", ())
    fields["outputs"] = _wired(copy, "inputs", ())
    if fields.get("shape") is not None:
        fields["shape"] = list(fields["shape"])
    return copy


def clone_attribute(value: object, outer: Mapping[int, gs.Tensor]) -> object:
    """Copy an attribute's value, graphs inside included; `outer` as in `clone_graph`."""
    if isinstance(value, list):
        if value and type(value[0]) in _NUMBERS:
            return value.copy()
        return [clone_attribute(item, outer) for item in value]
    if isinstance(value, gs.Graph):
        return clone_graph(value, outer)
    if isinstance(value, gs.Constant):
        return _clone_tensor(value)
    return value
