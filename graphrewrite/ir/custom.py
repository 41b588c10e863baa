"""Putting operators of our own into a graph: the node, its function body, the operator set it belongs to."""

from collections.abc import Mapping, Sequence

import onnx_graphsurgeon as gs

from graphrewrite import custom_ops
from graphrewrite.custom_ops.spec import Value
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir.model import Model

# Function bodies came with this version of the file format.
_IR_VERSION = 8
# Before this version every initializer was listed as an input.
_LISTS_WEIGHTS = 4


def custom_node(
    model: Model,
    op: str,
    inputs: Sequence[gs.Tensor],
    outputs: Sequence[gs.Tensor],
    attributes: Mapping[str, Value] | None = None,
    name: str = "",
) -> gs.Node:
    """Return a node of the domain `graphrewrite`, ready to be put into a graph of `model`.

    The model gets what the node needs to run anywhere: the operator's function body and the operator set. The node
    carries every attribute, those not given at their defaults.

    Raises:
        UnknownNameError: there is no such operator.
        InvalidConfig: an attribute is unknown or has an impossible value, inputs or outputs are too few or many, or
            the model's operator set is too old.
    """
    spec = custom_ops.find(op)
    for kind, given, declared in (("inputs", inputs, spec.inputs), ("outputs", outputs, spec.outputs)):
        if len(given) != len(declared):
            raise InvalidConfig(
                f"{op} was given {len(given)} {kind}; expected {len(declared)}: "
                f"{', '.join(port.name for port in declared)}; give every one, an optional one is a tensor of zeros"
            )
    declare(model, op)
    return gs.Node(
        op=op,
        name=name,
        attrs=spec.filled(attributes or {}),
        inputs=list(inputs),
        outputs=list(outputs),
        domain=custom_ops.DOMAIN,
    )


def declare(model: Model, op: str) -> None:
    """Give a model the function body of an operator and the operator set, where it lacks them."""
    spec = custom_ops.find(op)
    model.opsets.setdefault(custom_ops.DOMAIN, custom_ops.VERSION)
    if model.ir_version < _LISTS_WEIGHTS:
        # Listed as inputs by the old format, they would be defaults that a caller may override in the new one.
        model.graph.inputs = [tensor for tensor in model.graph.inputs if not isinstance(tensor, gs.Constant)]
    model.ir_version = max(model.ir_version, _IR_VERSION)
    if not any(f.domain == custom_ops.DOMAIN and f.name == op for f in model.functions):
        model.functions.append(spec.function(model.opset))
