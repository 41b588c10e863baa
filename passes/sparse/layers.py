"""Layers whose weights can be masked, each weight seen as [outputs, inputs, taps]."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import all_nodes


@dataclass(frozen=True)
class Layer:
    """A convolution, Gemm or MatMul with an initializer as weight.

    `weight` is the initializer's name: layers that share one are one layer here, the first. `outputs_first` says
    whether axis 0 of the stored weight holds the outputs.
    """

    name: str
    node: gs.Node
    weight: str
    outputs_first: bool

    def makes(self, axis: int) -> bool:
        """Tell whether an axis of the stored weight holds the outputs."""
        return axis == (0 if self.outputs_first else 1)

    def matrix(self, stored: Array) -> Array:
        """Return the stored weight as [outputs, inputs, taps]."""
        whole = stored if self.outputs_first else stored.T
        return whole.reshape(whole.shape[0], whole.shape[1], -1)

    def stored(self, matrix: Array, like: Array) -> Array:
        """Return [outputs, inputs, taps] in the form and type of the stored weight."""
        whole = matrix.reshape(like.shape) if self.outputs_first else matrix[:, :, 0].T
        return np.ascontiguousarray(whole, dtype=like.dtype)


def unmasked(model: Model) -> Iterator[tuple[str, str]]:
    """Yield name and reason of each node with a weight that `layers_of` leaves out for what the node computes."""
    for node in all_nodes(model.graph):
        why = "grouped and depthwise convolutions stay dense" if node.op == "Conv" else _DENSE.get(node.op)
        if why is None or domain_name(node.domain) or len(node.inputs) < 2:
            continue
        if node.op == "Conv" and int(node.attrs.get("group", 1)) == 1:
            continue
        if isinstance(node.inputs[1], gs.Constant):
            yield node.name or str(node.inputs[1].name), why


_GATES = "recurrent layers stay dense; their gates are products once write_out_gates has written them out"
_DENSE = {
    "ConvTranspose": "transposed convolutions stay dense",
    "GRU": _GATES,
    "LSTM": _GATES,
    "RNN": "recurrent layers stay dense",
}


def layers_of(model: Model) -> Iterator[Layer]:
    """Yield the dense layers in the order of the nodes; grouped and depthwise convolutions are none."""
    seen: set[str] = set()
    for node in all_nodes(model.graph):
        if domain_name(node.domain) or len(node.inputs) < 2:
            continue
        weight = node.inputs[1]
        if not isinstance(weight, gs.Constant) or weight.name in seen or weight.name not in model.weights:
            continue
        if np.dtype(weight.dtype) not in (np.float16, np.float32, np.float64):
            continue
        rank = len(weight.shape)
        if node.op == "Conv" and int(node.attrs.get("group", 1)) == 1 and rank >= 3:
            first = True
        elif node.op in ("Gemm", "MatMul") and rank == 2:
            first = bool(node.op == "Gemm" and node.attrs.get("transB", 0))
        else:
            continue
        seen.add(weight.name)
        yield Layer(node.name or weight.name, node, weight.name, first)
