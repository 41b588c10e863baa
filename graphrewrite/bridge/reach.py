"""Through which tensors of a model a gradient can flow back from its outputs.

A weight may be read by an operator that has a gradient and still never get one, as when all that comes of it ends in a
comparison, or in the scales of a Resize. As a parameter it would stand still, and DDP would wait for it.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx_graphsurgeon as gs
from onnx.defs import SchemaError, get_schema

from graphrewrite.bridge.forms import Form, find
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import subgraphs_of
from graphrewrite.ir.values import onnx_dtype_to_numpy


def is_floating(dtype: np.dtype[np.generic]) -> bool:
    """Whether a type is a float that torch can train: half, bfloat16, single or double."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


# Integers that go on as floats where a DequantizeLinear reads them (optable/quantized.py).
_CARRIED = ("QuantizeLinear",)


def form_of(node: gs.Node, opsets: Mapping[str, int]) -> Form | None:
    """Return the torch form that holds for a node under the model's operator sets."""
    return find(node.op, *_set_of(node, opsets))


def _set_of(node: gs.Node, opsets: Mapping[str, int]) -> tuple[str, int]:
    domain = domain_name(node.domain)
    return domain, opsets.get(domain, 1)


@cache
def _never_floats(op: str, domain: str, version: int) -> frozenset[int]:
    """Return the outputs of an operator that hold no floats whatever goes in, such as the places TopK finds."""
    try:
        schema = get_schema(op, version, domain)
    except SchemaError:
        return frozenset()
    kinds = {entry.type_param_str: entry.allowed_type_strs for entry in schema.type_constraints}
    return frozenset(
        slot
        for slot, output in enumerate(schema.outputs)
        if not any(
            "float" in kind or "double" in kind for kind in kinds.get(output.type_str, [output.type_str])
        )
    )


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
        whole = _never_floats(node.op, *_set_of(node, opsets))
        if not any(
            id(tensor) in found and (node.op in _CARRIED or (slot not in whole and _may_float(tensor)))
            for slot, tensor in enumerate(node.outputs)
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
