"""Through which tensors of a model a gradient can flow back from its outputs.

A weight may be read by an operator that has a gradient and still never get one, as when all that comes of it ends in a
comparison, or in the scales of a Resize. As a parameter it would stand still, and DDP would wait for it.
"""

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.bridge.forms import Form, find
from graphrewrite.ir.edit import subgraphs_of
from graphrewrite.ir.values import onnx_dtype_to_numpy


def is_floating(dtype: np.dtype[np.generic]) -> bool:
    """Whether a type is a float that torch can train: half, bfloat16, single or double."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


# Integers that go on as floats where a DequantizeLinear reads them (optable/quantized.py).
_CARRIED = ("QuantizeLinear",)


def form_of(node: gs.Node, opsets: Mapping[str, int]) -> Form | None:
    """Return the torch form that holds for a node under the model's operator sets."""
    domain = "" if node.domain in (None, "ai.onnx") else str(node.domain)
    return find(node.op, domain, opsets.get(domain, 1))


def reached(graph: gs.Graph, opsets: Mapping[str, int]) -> set[int]:
    """Return the ids of the tensors from which something differentiable leads to an output of the graph.

    What is not known (an operator without a form, a type that is not written down, what goes round in a loop) counts as
    leading on.
    """
    found: set[int] = set()
    _mark(graph, opsets, found)
    return found


def _mark(graph: gs.Graph, opsets: Mapping[str, int], found: set[int]) -> None:
    found.update(id(tensor) for tensor in graph.outputs)
    for node in reversed(graph.nodes):
        if not any(
            id(tensor) in found and (node.op in _CARRIED or _may_float(tensor)) for tensor in node.outputs
        ):
            continue
        for body in subgraphs_of(node):
            _mark(body, opsets, found)
        form = form_of(node, opsets)
        if form is None or _leads_on(node, form):
            found.update(
                id(tensor)
                for slot, tensor in enumerate(node.inputs)
                if form is None or not form.is_host(slot)
            )


def _leads_on(node: gs.Node, form: Form) -> bool:
    if node.op == "Cast" and "to" in node.attrs:
        return is_floating(np.dtype(onnx_dtype_to_numpy(int(node.attrs["to"]))))
    return form.gradient


def _may_float(tensor: gs.Tensor) -> bool:
    return tensor.dtype is None or is_floating(np.dtype(tensor.dtype))
