"""Looking at a graph that is being revised: who reads what, what is constant, what sizes and types are known."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model, constant_value
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import all_graphs, redirect
from graphrewrite.ir.shapes import infer
from graphrewrite.ir.symbols import Dim, Real, Sym


def is_default_domain(node: gs.Node) -> bool:
    """Tell whether a node's type is one of the standard operators."""
    return not domain_name(node.domain)


class View:
    """A model's main graph as it stands while a `Draft` changes it.

    Attributes:
        model: the model.
        graph: its main graph; the list of nodes is out of date while the draft is open, `nodes()` is not.
        opset: version of the default operator set.
        info: shapes, types and values as inferred before the first change; a name keeps its meaning throughout.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.graph = model.graph
        self.opset = model.opset
        self._dead: dict[int, gs.Node] = {}
        # Readings that ended but still stand in `tensor.outputs`: how many, by tensor.
        self._gone: dict[int, int] = {}
        self._beside: dict[int, list[gs.Node]] = {}
        self._described: dict[str, tuple[tuple[Dim, ...] | None, np.dtype[np.generic] | None]] = {}
        self._held = Counter(id(tensor) for graph in all_graphs(model.graph) for tensor in graph.outputs)
        # A default that a caller may override is no constant. Before IR 4 every initializer had to be listed as input.
        listed = model.graph.inputs if model.ir_version >= 4 else ()
        self._overridable = {id(tensor) for tensor in listed if isinstance(tensor, gs.Constant)}
        self.info = infer(_without_defaults(model) if self._overridable else model)
        self._own = {id(node) for node in model.graph.nodes}

    def nodes(self) -> Iterator[gs.Node]:
        """Yield the living nodes, new ones just before the node they were made for."""
        stack = list(reversed(self.graph.nodes))
        opened: set[int] = set()
        while stack:
            node = stack.pop()
            waiting = self._beside.get(id(node))
            if waiting and id(node) not in opened:
                opened.add(id(node))
                stack.append(node)
                stack.extend(reversed(waiting))
            elif id(node) not in self._dead:
                yield node

    def is_alive(self, node: gs.Node) -> bool:
        """Tell whether a node is still part of this graph (the nodes of bodies are not)."""
        return id(node) in self._own and id(node) not in self._dead

    def producer(self, tensor: gs.Tensor) -> gs.Node | None:
        """Return the node of this graph that writes a tensor, None for inputs and initializers."""
        return tensor.inputs[0] if len(tensor.inputs) else None

    def users(self, tensor: gs.Tensor) -> list[gs.Node]:
        """Return the nodes that read a tensor, once per reading, those inside bodies included."""
        if self._gone.pop(id(tensor), 0):
            self._sweep(tensor)
        return list(tensor.outputs)

    def use_count(self, tensor: gs.Tensor) -> int:
        """Return how often a tensor is read; being an output counts as one reading."""
        return len(tensor.outputs) - self._gone.get(id(tensor), 0) + self.is_output(tensor)

    def is_output(self, tensor: gs.Tensor) -> bool:
        """Tell whether a tensor is an output of the graph or of a body."""
        return self._held[id(tensor)] > 0

    def sole_user(self, tensor: gs.Tensor) -> gs.Node | None:
        """Return the one node that reads a tensor, None when there are others or it is an output."""
        if self.is_output(tensor) or self.use_count(tensor) > 4:
            return None
        users = self.users(tensor)
        return users[0] if users and all(user is users[0] for user in users) else None

    def feeds_only(self, tensor: gs.Tensor, node: gs.Node) -> bool:
        """Tell whether `node` is the one reader of a tensor that is no output."""
        reader = self.sole_user(tensor)
        return reader is not None and reader is node

    def constant(self, tensor: gs.Tensor) -> Array | None:
        """Return the numbers of a tensor that cannot change between runs, None for all others."""
        if id(tensor) in self._overridable:
            return None
        return constant_value(tensor)

    def is_constant(self, tensor: gs.Tensor) -> bool:
        """Tell whether `constant` would return something, without reading any numbers."""
        if isinstance(tensor, gs.Constant):
            return id(tensor) not in self._overridable
        maker = self.producer(tensor)
        return maker is not None and maker.op == "Constant" and is_default_domain(maker)

    def shape(self, tensor: gs.Tensor) -> tuple[Dim, ...] | None:
        """Return a tensor's shape, None when its rank is unknown."""
        if isinstance(tensor, gs.Constant) and id(tensor) not in self._overridable:
            return tuple(int(size) for size in tensor.shape)
        if tensor.name in self._described:
            return self._described[tensor.name][0]
        return self.info.shape(tensor.name)

    def dtype(self, tensor: gs.Tensor) -> np.dtype[np.generic] | None:
        """Return a tensor's element type."""
        if isinstance(tensor, gs.Constant):
            stored: np.dtype[np.generic] = np.dtype(tensor.dtype)
            return stored
        if tensor.name in self._described:
            return self._described[tensor.name][1]
        found: np.dtype[np.generic] | None = self.info.dtype(tensor.name)
        return found

    def rank(self, tensor: gs.Tensor) -> int | None:
        """Return a tensor's number of axes."""
        shape = self.shape(tensor)
        return None if shape is None else len(shape)

    def value(self, tensor: gs.Tensor) -> Array | None:
        """Return a constant, or the value of a small tensor that hangs on input sizes only (elements may be Syms)."""
        found = self.constant(tensor)
        if found is None and tensor.name not in self._described and id(tensor) not in self._overridable:
            found = self.info.value(tensor.name)
        return found

    def integers(self, tensor: gs.Tensor) -> list[int] | None:
        """Return the elements of a known integer tensor, None when any of them varies."""
        values = self.value(tensor)
        if values is None or values.dtype.kind not in "iubO":
            return None
        items = values.reshape(-1).tolist()
        return None if any(isinstance(item, (Sym, Real)) for item in items) else [int(item) for item in items]

    def _sweep(self, tensor: gs.Tensor) -> None:
        readers = {id(node): node for node in tensor.outputs if id(node) not in self._dead}
        list.clear(tensor.outputs)
        for node in readers.values():
            list.extend(tensor.outputs, [node] * sum(source is tensor for source in node.inputs))


def _without_defaults(model: Model) -> Model:
    """Return a copy in which initializers a caller may override are plain inputs: their numbers mean nothing yet."""
    copy = model.clone()
    for position, tensor in enumerate(list(copy.graph.inputs)):
        if isinstance(tensor, gs.Constant):
            plain = gs.Variable(tensor.name, tensor.dtype, list(tensor.shape))
            redirect(copy.graph, tensor, plain)
            copy.graph.inputs[position] = plain
            copy.graph.initializers.pop(tensor.name, None)
    return copy
