"""Where a convolutional net changes its resolution: the last feature map of each size."""

from itertools import pairwise

import networkx as nx

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Dim, Model, infer
from graphrewrite.ir.edit import captured, sort_nodes


def last_maps(model: Model) -> tuple[str, ...]:
    """Return the tensors [samples, channels, height, width] behind which the size changes, shallowest first.

    Only tensors that everything on the way to the first output goes through count: of a net with residual sums, the
    sums. Maps of a single place do not count.

    Raises:
        InvalidConfig: there is none.
    """
    model = model.clone()
    sort_nodes(model.graph)
    info = infer(model)
    sized: list[tuple[str, tuple[Dim, ...]]] = []
    for name in _on_all_paths(model):
        shape = info.shape(name)
        if shape is not None and len(shape) == 4 and shape[2:] != (1, 1):
            sized.append((name, shape[2:]))
    last = [name for (name, sizes), (_, after) in pairwise([*sized, ("", ())]) if sizes != after]
    if not last:
        raise InvalidConfig(
            "the model has no feature map that everything on the way to its first output goes through; expected "
            "tensors [samples, channels, height, width]; name them"
        )
    return tuple(last)


def _on_all_paths(model: Model) -> list[str]:
    """Return the tensors that every path from an input to the first output goes through; nodes are in order."""
    start = -1
    flow: nx.DiGraph = nx.DiGraph()
    flow.add_node(start)
    made_by = {id(tensor): start for tensor in model.inputs}
    nodes = model.nodes()
    for number, node in enumerate(nodes):
        reads = {made_by[id(tensor)] for tensor in (*node.inputs, *captured(node)) if id(tensor) in made_by}
        if reads:  # what is made of constants alone is no way from an input
            flow.add_edges_from((other, number) for other in reads)
            made_by |= dict.fromkeys(map(id, node.outputs), number)
    place = made_by.get(id(model.outputs[0]), start)
    above = nx.immediate_dominators(flow, start)
    found: list[str] = []
    while place != start:
        found.append(str(nodes[place].outputs[0].name))
        place = above[place]
    return found[::-1]
