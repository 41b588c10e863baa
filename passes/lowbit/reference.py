"""What lowering is proved against: activations rounded and weights expanded, in standard operators."""

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model
from graphrewrite.ir.edit import all_graphs, drop_unused
from graphrewrite.passes.factor.writer import Names, Writer


def slow(model: Model, weights: Mapping[int, tuple[Array, Array]]) -> Model:
    """Return a copy in which nodes round what they read to 255 levels per row.

    `weights` says by the place of a node, among all nodes, what stands in for its weight [inputs, outputs] and bias.
    """
    copy = model.clone()
    names = Names(copy)
    every = [(graph, node) for graph in all_graphs(copy.graph) for node in graph.nodes]
    for place, (weight, bias) in weights.items():
        graph, node = every[place]
        writer = Writer(copy, graph, str(node.name or node.outputs[0].name), names)
        whole, worth = rounded(writer, node.inputs[0])
        product = writer.op("MatMul", whole, writer.floats(weight, "weight"))
        result = writer.op("Add", writer.op("Mul", product, worth), writer.floats(bias, "bias"))
        writer.take_place(node, result)
    drop_unused(copy.graph)
    return copy


def rounded(writer: Writer, x: gs.Tensor) -> tuple[gs.Variable, gs.Variable]:
    """Return a tensor in whole levels of the largest value of its row, and what a level is worth."""
    largest = writer.all("TopK", writer.op("Abs", x), writer.ints([1], "one"), outputs=2, axis=-1)[0]
    span = writer.op("Max", largest, writer.floats(np.array(1e-30), "least"))
    levels = writer.floats(np.array(127.0), "levels")
    whole = writer.op("Round", writer.op("Mul", x, writer.op("Div", levels, span)))
    return whole, writer.op("Div", span, levels)
