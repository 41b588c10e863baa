"""Layers whose weight can be factored: products with a constant matrix, and convolutions without groups."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model, constant_value
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import all_graphs
from graphrewrite.passes.factor.factors import Floats


class Layer(NamedTuple):
    """One layer. `weight` is [in, out], factors of a Gemm included; `kernel` is empty but for convolutions.

    `place` is the position of the node among all nodes of the model, bodies included: the same in every clone.
    """

    place: int
    graph: gs.Graph
    node: gs.Node
    weight: Floats
    bias: Floats | None
    kernel: tuple[int, ...]

    @property
    def name(self) -> str:
        """What notes and skip patterns call it."""
        return str(self.node.name or self.node.outputs[0].name)


class Left(NamedTuple):
    """A layer that is left alone, and why."""

    name: str
    why: str


def layers(model: Model) -> Iterator[Layer | Left]:
    """Yield every layer with a constant weight, in the order of the nodes, nodes of bodies behind those outside.

    Weights in other operators are told of, so that no report is silent about most of a model.
    """
    place = -1
    for graph in all_graphs(model.graph):
        for node in graph.nodes:
            place += 1
            if not domain_name(node.domain) and node.op in ("MatMul", "Gemm", "Conv"):
                found = _read(place, graph, node)
                if found is not None:
                    yield found
            elif _is_other(node):
                yield Left(str(node.name or node.outputs[0].name), _OTHERS[node.op])


_GATED = "its gates are layers once they are written out (--gates, write_out_gates)"
_OTHERS = {
    "ConvTranspose": "a transposed convolution; only Conv, Gemm and MatMul are read as layers here",
    "GRU": _GATED,
    "LSTM": _GATED,
    "RNN": "a plain recurrent layer; only Conv, Gemm and MatMul are read as layers here",
}


def _is_other(node: gs.Node) -> bool:
    known = not domain_name(node.domain) and node.op in _OTHERS
    return known and constant_value(node.inputs[1]) is not None


def with_weight(node: gs.Node, weight: Floats, kernel: tuple[int, ...]) -> Floats:
    """Return `weight` [in, out] in the form in which this node stores it."""
    if kernel:
        return weight.T.reshape(weight.shape[1], -1, *kernel)
    if node.op == "Gemm":
        weight = weight / float(node.attrs.get("alpha", 1.0))
        return weight.T if int(node.attrs.get("transB", 0)) else weight
    return weight


def _read(place: int, graph: gs.Graph, node: gs.Node) -> Layer | Left | None:
    values = constant_value(node.inputs[1]) if len(node.inputs) > 1 else None
    name = str(node.name or node.outputs[0].name)
    if values is None or values.ndim < 2:
        return None
    if values.dtype != np.float32:
        return Left(name, f"its weight is {values.dtype}; expected float32")
    if len(node.inputs[1].outputs) > 1:
        return Left(name, "its weight is read by other nodes too, which would keep it")
    stored = values.astype(np.float64)
    bias = None
    if len(node.inputs) > 2 and not node.inputs[2].is_empty():
        given = constant_value(node.inputs[2])
        if given is None:
            return Left(name, "its bias is computed")
        bias = given.astype(np.float64)
    if node.op == "Conv":
        if int(node.attrs.get("group", 1)) != 1:
            return Left(name, "it has groups, each a small product of its own")
        kernel = stored.shape[2:]
        return Layer(place, graph, node, stored.reshape(len(stored), -1).T, bias, kernel)
    if stored.ndim != 2:
        return Left(name, "its weight is a stack of matrices")
    if node.op == "MatMul":
        return Layer(place, graph, node, stored, None, ())
    if int(node.attrs.get("transA", 0)):
        return Left(name, "it transposes its input")
    weight = stored.T if int(node.attrs.get("transB", 0)) else stored
    alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
    if alpha == 0:
        return Left(name, "its product is multiplied by 0")
    if bias is not None:
        if bias.size not in (1, weight.shape[1]) or (bias.ndim > 1 and len(bias) != 1):
            return Left(name, "what it adds is no vector")
        bias = np.broadcast_to(bias.reshape(-1) * beta, (weight.shape[1],))
    return Layer(place, graph, node, weight * alpha, bias, ())
