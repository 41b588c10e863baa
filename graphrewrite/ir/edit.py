"""Small edits of a graph that keep producers and consumers in step, each linear in what it touches.

`gs` compares nodes field by field and removes from lists by equality; on large graphs, or where one constant feeds
thousands of nodes, that is quadratic. These helpers go by identity.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidModel
from graphrewrite.ir.values import Array


def producer(tensor: gs.Tensor) -> gs.Node | None:
    """Return the node that writes a tensor, or None for inputs and constants."""
    return tensor.inputs[0] if len(tensor.inputs) else None


def subgraphs_of(node: gs.Node) -> list[gs.Graph]:
    """Return the graphs in a node's attributes (the bodies of If, Loop, Scan)."""
    found: list[gs.Graph] = []
    for value in node.attrs.values():
        if isinstance(value, list):
            if value and isinstance(value[0], gs.Graph):
                found.extend(value)
        elif isinstance(value, gs.Graph):
            found.append(value)
    return found


def all_graphs(graph: gs.Graph) -> Iterator[gs.Graph]:
    """Yield a graph and every graph nested in its nodes, outermost first."""
    queue = deque([graph])
    while queue:
        current = queue.popleft()
        yield current
        for node in current.nodes:
            if node.attrs:
                queue.extend(subgraphs_of(node))


def all_nodes(graph: gs.Graph) -> list[gs.Node]:
    """Return the nodes of a graph, then those of every graph nested in it; a copy has them in the same order."""
    return [node for nested in all_graphs(graph) for node in nested.nodes]


def detach(nodes: Iterable[gs.Node]) -> None:
    """Unhook nodes, and the nodes of their bodies, from their tensors; linear in the edges of the touched tensors."""
    nodes = list(nodes)
    for node in list(nodes):
        for body in subgraphs_of(node):
            nodes.extend(inner for nested in all_graphs(body) for inner in nested.nodes)
    gone = {id(node) for node in nodes}
    seen: set[int] = set()
    for node in nodes:
        for tensor in (*node.inputs, *node.outputs):
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            for users in (tensor.inputs, tensor.outputs):
                kept = [user for user in users if id(user) not in gone]
                if len(kept) != len(users):
                    list.clear(users)
                    list.extend(users, kept)
    for node in nodes:
        list.clear(node.inputs)
        list.clear(node.outputs)


def remove_nodes(graph: gs.Graph, nodes: Iterable[gs.Node]) -> None:
    """Take nodes out of a graph and unhook them."""
    doomed = list(nodes)
    if not doomed:
        return
    gone = {id(node) for node in doomed}
    graph.nodes = [node for node in graph.nodes if id(node) not in gone]
    detach(doomed)


def set_input(node: gs.Node, index: int, tensor: gs.Tensor) -> None:
    """Make `tensor` the `index`-th input of a node."""
    old = node.inputs[index]
    if old is tensor:
        return
    list.__setitem__(node.inputs, index, tensor)
    users = old.outputs
    for position, user in enumerate(users):
        if user is node:
            list.__delitem__(users, position)
            break
    list.append(tensor.outputs, node)


def redirect(graph: gs.Graph, old: gs.Tensor, new: gs.Tensor) -> None:
    """Let everything that reads `old` read `new`, subgraph consumers and graph outputs of `graph` included."""
    if old is new:
        return
    users = list(old.outputs)
    for node in users:
        for index, tensor in enumerate(node.inputs):
            if tensor is old:
                list.__setitem__(node.inputs, index, new)
    list.extend(new.outputs, users)
    list.clear(old.outputs)
    # Only a tensor that some body returns needs the walk over all graphs; others would make many edits quadratic.
    escapes = getattr(old, "leaves_body", False)
    for nested in all_graphs(graph) if escapes else (graph,):
        if any(tensor is old for tensor in nested.outputs):
            nested.outputs = [new if tensor is old else tensor for tensor in nested.outputs]
    if escapes:
        new.leaves_body = True


def names_of(graph: gs.Graph) -> set[str]:
    """Return every tensor name used in a graph and the graphs nested in it."""
    names: set[str] = set()
    for nested in all_graphs(graph):
        names.update(nested.initializers)
        names.update(
            tensor.name for tensor in (*nested.initializers.values(), *nested.inputs, *nested.outputs)
        )
        names.update(info.name for info in nested.shell.value_info)
        names.update([tensor.name for node in nested.nodes for tensor in node.inputs])
        names.update([tensor.name for node in nested.nodes for tensor in node.outputs])
    return names


class Namer:
    """Hands out names of tensors, or of nodes, that are not in use, derived from a stem so that diffs stay readable.

    onnxruntime refuses a graph in which two nodes have the same name.
    """

    def __init__(self, graph: gs.Graph, nodes: bool = False) -> None:
        self._used = (
            {node.name for each in all_graphs(graph) for node in each.nodes} if nodes else names_of(graph)
        )
        self._next: dict[str, int] = {}

    def fresh(self, stem: str) -> str:
        """Return `stem`, or `stem.1`, `stem.2`, ... when taken; the name is reserved from now on."""
        name = stem = stem or "tensor"  # the empty name means "left out"
        while name in self._used:
            self._next[stem] = self._next.get(stem, 0) + 1
            name = f"{stem}.{self._next[stem]}"
        self._used.add(name)
        return name


def add_constant(graph: gs.Graph, name: str, values: Array) -> gs.Constant:
    """File a new initializer in a graph; `name` must be fresh."""
    if name in graph.initializers:
        raise InvalidModel(f"the initializer {name!r} exists already; ask a Namer for a fresh name")
    array = np.ascontiguousarray(values).reshape(np.shape(values)).view()
    array.flags.writeable = False
    constant = gs.Constant(name, array)
    graph.initializers[name] = constant
    return constant


def drop_unused(graph: gs.Graph) -> tuple[list[str], list[str]]:
    """Remove nodes nothing depends on and initializers nothing reads; return the names of both.

    Works inwards from the outputs; a node with a subgraph counts as reading what the subgraph captures.
    """
    graphs = list(all_graphs(graph))
    names: list[str] = []
    for nested in reversed(
        graphs
    ):  # innermost first: what only a dead node in a body captures is dead as well
        doomed = dead_nodes(nested)
        names.extend(node.name or node.op for node in doomed)
        remove_nodes(nested, doomed)
    graphs = list(all_graphs(graph))
    held = {id(tensor) for nested in graphs for tensor in nested.outputs}
    gone: list[str] = []
    for nested in graphs:
        noted = _annotated(nested)
        if nested is not graph:  # a body's inputs are told apart by position: none may go
            held.update(id(tensor) for tensor in nested.inputs)
        unused = [
            name
            for name, c in nested.initializers.items()
            if not len(c.outputs) and id(c) not in held and name not in noted
        ]
        dropped = {id(nested.initializers.pop(name)) for name in unused}
        nested.inputs = [tensor for tensor in nested.inputs if id(tensor) not in dropped]
        gone.extend(unused)
    return names, gone


def _annotated(graph: gs.Graph) -> set[str]:
    """Return the initializers that quantization annotations speak of: scales and zero points nothing else reads."""
    return {
        entry.value
        for note in graph.shell.quantization_annotation
        for entry in note.quant_parameter_tensor_names
    }


def dead_nodes(graph: gs.Graph) -> list[gs.Node]:
    """Return the nodes of one graph that no output depends on."""
    alive: set[int] = set()
    stack = list(graph.outputs)
    own = {id(node) for node in graph.nodes}
    while stack:
        tensor = stack.pop()
        for node in tensor.inputs:
            if id(node) in alive or id(node) not in own:
                continue
            alive.add(id(node))
            stack.extend(node.inputs)
            stack.extend(captured(node))  # what a body captures is read whenever the body's node is alive
    return [node for node in graph.nodes if id(node) not in alive]


def captured(node: gs.Node) -> Iterator[gs.Tensor]:
    """Yield every tensor read or returned inside a node's bodies (tensors of the bodies themselves do no harm)."""
    for body in subgraphs_of(node):
        for nested in all_graphs(body):
            yield from nested.outputs
            for inner in nested.nodes:
                yield from inner.inputs


def sort_nodes(graph: gs.Graph) -> None:
    """Put nodes into an order in which producers come first, keeping the present order where it allows.

    Raises:
        InvalidModel: the graph has a cycle.
    """
    position = {id(node): index for index, node in enumerate(graph.nodes)}
    waiting: dict[int, int] = {}
    users: dict[int, list[gs.Node]] = {}
    for node in graph.nodes:
        sources = {id(maker): maker for tensor in (*node.inputs, *captured(node)) for maker in tensor.inputs}
        sources = {key: maker for key, maker in sources.items() if key in position}
        waiting[id(node)] = len(sources)
        for key in sources:
            users.setdefault(key, []).append(node)
    ready = [position[id(node)] for node in graph.nodes if waiting[id(node)] == 0]
    heapq.heapify(ready)
    nodes = list(graph.nodes)
    ordered: list[gs.Node] = []
    while ready:
        node = nodes[heapq.heappop(ready)]
        ordered.append(node)
        for user in users.get(id(node), ()):
            waiting[id(user)] -= 1
            if waiting[id(user)] == 0:
                heapq.heappush(ready, position[id(user)])
    if len(ordered) != len(nodes):
        raise _cycle(nodes, {key for key, count in waiting.items() if count > 0})
    graph.nodes = ordered


def _cycle(nodes: list[gs.Node], stuck: set[int]) -> InvalidModel:
    """Walk back from a node that never got ready until one comes up again: that one lies on the cycle."""
    node = next(node for node in nodes if id(node) in stuck)
    passed: set[int] = set()
    while id(node) not in passed:
        passed.add(id(node))
        makers = (maker for tensor in (*node.inputs, *captured(node)) for maker in tensor.inputs)
        node = next(maker for maker in makers if id(maker) in stuck)
    return InvalidModel(
        f"the node {node.name or node.op!r} depends on its own output; an ONNX graph must be acyclic; export it again"
    )
