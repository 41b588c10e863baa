"""A model's initializers as a mapping from name to array."""

from collections.abc import Iterator, MutableMapping

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidModel, UnknownNameError
from graphrewrite.ir.values import Array, array_of


class Weights(MutableMapping[str, Array]):
    """Initializer name -> read-only array; setting replaces the array for every consumer (shared weights stay shared).

    Arrays may be shared with other models (clones): they are never written into.
    """

    def __init__(self, graph: gs.Graph) -> None:
        self._graph = graph
        self._constants: dict[str, gs.Constant] = graph.initializers

    def __getitem__(self, name: str) -> Array:
        return array_of(self._constant(name))

    def __setitem__(self, name: str, values: Array) -> None:
        array = np.asarray(values, order="C").view()
        array.flags.writeable = False
        if name in self._constants:
            self._constants[name].values = array
        else:
            self._constants[name] = gs.Constant(name, array)

    def __delitem__(self, name: str) -> None:
        constant = self._constant(name)
        users = [node.name or node.op for node in constant.outputs]
        users += ["the graph's outputs" for tensor in self._graph.outputs if tensor is constant]
        if users or getattr(constant, "leaves_body", False):
            raise InvalidModel(
                f"the weight {name!r} is still used by {', '.join(users[:3]) or 'a subgraph'}; "
                "expected one that nothing reads; take it from its nodes before deleting it"
            )
        self._graph.inputs = [tensor for tensor in self._graph.inputs if tensor is not constant]
        del self._constants[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._constants)

    def __len__(self) -> int:
        return len(self._constants)

    def __contains__(self, name: object) -> bool:
        return name in self._constants

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a weight's shape without reading its numbers."""
        return tuple(self._constant(name).shape)

    def _constant(self, name: str) -> gs.Constant:
        try:
            return self._constants[name]
        except KeyError:
            raise UnknownNameError(
                f"the model has no initializer {name!r}; it has {len(self._constants)}, see list(model.weights)"
            ) from None
