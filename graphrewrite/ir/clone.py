"""Copies in O(nodes): new nodes and tensors, the same arrays."""

from collections.abc import Mapping

import onnx_graphsurgeon as gs


def clone_graph(graph: gs.Graph, outer: Mapping[int, gs.Tensor] | None = None) -> gs.Graph:
    """Copy a graph and its subgraphs; tensors are new objects under the same names, arrays are shared."""
    twins: dict[int, gs.Tensor] = {}
    outer = outer or {}

    def twin(tensor: gs.Tensor) -> gs.Tensor:
        found = twins.get(id(tensor))
        if found is None:
            found = outer.get(id(tensor))
        if found is None:
            found = twins[id(tensor)] = _clone_tensor(tensor)
        return found

    initializers = {name: twin(constant) for name, constant in graph.initializers.items()}
    inputs = [twin(tensor) for tensor in graph.inputs]
    nodes = []
    for node in graph.nodes:
        outputs = [twin(tensor) for tensor in node.outputs]
        attrs = {name: _clone_attribute(value, _Joined(twins, outer)) for name, value in node.attrs.items()}
        copy = gs.Node(node.op, node.name, attrs, [twin(tensor) for tensor in node.inputs], outputs, node.domain)
        copy.shell = getattr(node, "shell", None)
        nodes.append(copy)
    result = gs.Graph(
        nodes=nodes,
        inputs=inputs,
        outputs=[twin(tensor) for tensor in graph.outputs],
        name=graph.name,
        doc_string=graph.doc_string,
        opset=graph.opset,
    )
    result.initializers = initializers
    result.shell = graph.shell
    return result


class _Joined(Mapping[int, gs.Tensor]):
    """Looks through the tensors of this graph, then those around it, without copying either table."""

    def __init__(self, inner: Mapping[int, gs.Tensor], outer: Mapping[int, gs.Tensor]) -> None:
        self.inner, self.outer = inner, outer

    def __getitem__(self, key: int) -> gs.Tensor:
        return self.inner[key] if key in self.inner else self.outer[key]

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield from self.inner
        yield from self.outer

    def __len__(self) -> int:
        return len(self.inner) + len(self.outer)


def _clone_tensor(tensor: gs.Tensor) -> gs.Tensor:
    if isinstance(tensor, gs.Constant):
        copy = gs.Constant(tensor.name, tensor._values, data_location=tensor.data_location)
        copy.doc_string = getattr(tensor, "doc_string", "")
    else:
        copy = gs.Variable(tensor.name, tensor.dtype, None if tensor.shape is None else list(tensor.shape), tensor.type)
    info = getattr(tensor, "info", None)
    if info is not None:
        copy.info = info
    return copy


def _clone_attribute(value: object, outer: Mapping[int, gs.Tensor]) -> object:
    if isinstance(value, gs.Graph):
        return clone_graph(value, outer)
    if isinstance(value, gs.Constant):
        return _clone_tensor(value)
    if isinstance(value, list):
        return [_clone_attribute(item, outer) for item in value] if value and not isinstance(value[0], (int, float, str)) else list(value)
    return value
