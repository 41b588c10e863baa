"""Weights of a loop's body worked out from their factors once, ahead of the loop: the form to train in.

A step of a loop that goes through diagonals and transforms costs dozens of small operations; over a sequence that is
most of a training step. The product of the factors with the unit matrix is the same weight in one go, and what it is
made of stays trainable by name.
"""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_graphs, subgraphs_of
from graphrewrite.passes.factor.chain import integers, maker
from graphrewrite.passes.factor.factors import Factors
from graphrewrite.passes.factor.layers import Layer
from graphrewrite.passes.factor.writer import Names, Writer


def write_ahead(model: Model, layer: Layer, factors: Factors, names: Names) -> bool:
    """Write the weight of a layer in a body in front of the loop; tell whether the layer is in one."""
    place = _loop_of(model, layer.graph)
    if place is None:
        return False
    outer, loop = place
    ahead = Writer(model, outer, layer.name, names)
    wide = len(layer.weight)
    zeros = ahead.op("ConstantOfShape", ahead.ints([wide, wide], "sizes"))
    weight = factors.write(ahead, ahead.op("EyeLike", zeros), None)
    ahead.put_before(loop)
    inside = Writer(model, layer.graph, layer.name, names)
    result = inside.op("MatMul", layer.node.inputs[0], weight)
    if layer.bias is not None:
        result = inside.op("Add", result, inside.floats(layer.bias, "bias"))
    inside.take_place(layer.node, result)
    return True


def is_unit(tensor: gs.Tensor, size: int) -> bool:
    """Tell whether a tensor is the unit matrix that `write_ahead` multiplies factors with."""
    node = maker(tensor, "EyeLike")
    if (
        node is None
        or int(node.attrs.get("k", 0))
        or node.attrs.get("dtype", np.float32) not in (1, np.float32)
    ):
        return False
    zeros = maker(node.inputs[0], "ConstantOfShape")
    return zeros is not None and integers(zeros, 0) == [size, size]


def _loop_of(model: Model, body: gs.Graph) -> tuple[gs.Graph, gs.Node] | None:
    """Return the node that runs a body, and the graph this node is in; None for the main graph."""
    for graph in all_graphs(model.graph):
        for node in graph.nodes:
            if any(each is body for each in subgraphs_of(node)):
                return graph, node
    return None
