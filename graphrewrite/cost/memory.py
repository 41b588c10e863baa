"""Activation memory over time: which tensors are alive while each node runs."""

from collections.abc import Iterable, Mapping

import onnx_graphsurgeon as gs

from graphrewrite.ir.edit import captured

# Their output is their first input under another shape; runtimes hand the same buffer on.
VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})


def peak_bytes(
    graph: gs.Graph, bytes_of: Mapping[int, int], during: Mapping[int, int], is_body: bool = False
) -> int:
    """Return the most bytes alive at once when the nodes run in their order.

    `bytes_of` holds the size of each activation by the id of its tensor (others take nothing), `during` extra bytes a
    node needs while it runs, by its position. Inputs are alive from the start to their last reader, outputs to the end,
    everything else from its node to its last reader; while a node runs, its inputs and outputs are alive together. What
    enters a body belongs to the graph around it and is not given up inside.
    """
    home = _homes(graph.nodes, bytes_of)
    ends: dict[int, list[int]] = {}
    kept = {id(tensor) for tensor in graph.inputs} if is_body else set()
    for tensor, position in _last_use(graph, bytes_of, home).items():
        if tensor not in kept:
            ends.setdefault(position, []).append(tensor)

    alive = sum(bytes_of.get(id(tensor), 0) for tensor in graph.inputs)
    peak = alive
    for position, node in enumerate(graph.nodes):
        for tensor in node.outputs:
            key = id(tensor)
            if key not in home:
                alive += bytes_of.get(key, 0)
        if alive > peak or during:
            peak = max(peak, alive + during.get(position, 0))
        if position in ends:
            for ended in ends[position]:
                alive -= bytes_of[ended]
    return peak


def _homes(nodes: Iterable[gs.Node], bytes_of: Mapping[int, int]) -> dict[int, int]:
    """Return view -> the tensor whose memory it shares, both by id; only for tensors that take memory."""
    home: dict[int, int] = {}
    for node in nodes:
        if node.op in VIEWS and not node.domain and len(node.inputs) and len(node.outputs):
            source, view = id(node.inputs[0]), id(node.outputs[0])
            source = home.get(source, source)
            if source in bytes_of and bytes_of.get(view, 0) <= bytes_of[source]:
                home[view] = source
    return home


def _last_use(graph: gs.Graph, bytes_of: Mapping[int, int], home: Mapping[int, int]) -> dict[int, int]:
    """Return tensor id -> position of the node after which it can go; outputs stay past the last node."""
    last: dict[int, int] = {}
    for position, node in enumerate(graph.nodes):
        for tensors in (node.outputs, node.inputs):
            for tensor in tensors:
                key = id(tensor)
                if key in bytes_of:  # constants and what is unknown take no activation memory
                    last[home.get(key, key)] = position
        for tensor in captured(node):
            key = id(tensor)
            if key in bytes_of:
                last[home.get(key, key)] = position
    for tensor in graph.outputs:
        last[home.get(id(tensor), id(tensor))] = len(graph.nodes)
    return last
