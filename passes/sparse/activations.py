"""Activations behind a layer that a kernel can apply to its sums before it stores them."""

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from graphrewrite.custom_ops.blocks.activation import ACTIVATIONS
from graphrewrite.match import Draft, is_default_domain
from graphrewrite.passes.tidy.reading import real, source


@dataclass(frozen=True)
class Activation:
    """An activation: its number for the kernels, the limits of a clip, and the tensor that holds its result."""

    number: int
    low: float
    high: float
    output: gs.Tensor


def activation_of(draft: Draft, y: gs.Tensor) -> Activation:
    """Return the activation that is all that becomes of `y`, or none at all with `y` itself as output."""
    none = Activation(ACTIVATIONS.index("none"), 0.0, 0.0, y)
    node = draft.sole_user(y)
    if node is None or draft.is_output(y) or not is_default_domain(node):
        return _silu(draft, y) or none
    if node.op == "Relu":
        return Activation(ACTIVATIONS.index("relu"), 0.0, 0.0, node.outputs[0])
    if node.op == "HardSwish":
        return Activation(ACTIVATIONS.index("hardswish"), 0.0, 0.0, node.outputs[0])
    if node.op == "Swish" and real(node, "alpha", 1.0) == 1.0:
        return Activation(ACTIVATIONS.index("silu"), 0.0, 0.0, node.outputs[0])
    if node.op == "Clip" and node.inputs[0] is y:
        limits = _limits(draft, node)
        if limits is not None:
            return Activation(ACTIVATIONS.index("clip"), *limits, node.outputs[0])
    return none


def _limits(draft: Draft, node: gs.Node) -> tuple[float, float] | None:
    """Return the limits of a Clip whose limits are constants; finite, as the kernels want them."""
    largest = 3.4028234663852886e38
    found = []
    for index, default in ((1, -largest), (2, largest)):
        tensor = source(node, index)
        values = None if tensor is None else draft.constant(tensor)
        if tensor is not None and values is None:
            return None
        found.append(default if values is None else float(values.reshape(-1)[0]))
    return found[0], found[1]


def _silu(draft: Draft, y: gs.Tensor) -> Activation | None:
    """Recognise y * sigmoid(y)."""
    users = draft.users(y)
    if len(users) != 2 or draft.is_output(y):
        return None
    gate = next((node for node in users if node.op == "Sigmoid" and is_default_domain(node)), None)
    product = next((node for node in users if node.op == "Mul" and is_default_domain(node)), None)
    if gate is None or product is None or not draft.feeds_only(gate.outputs[0], product):
        return None
    out: gs.Tensor = product.outputs[0]
    return Activation(ACTIVATIONS.index("silu"), 0.0, 0.0, out)
