"""Binary layers in one plain form: weights of +1 and -1, and behind the layer what a product of signs is worth.

A float sum of sizes such as 0.3 is rounded on the way, so that +0.3 and -0.3 in equal numbers need not give 0. Sums of
signs are exact; so a graph says clearly what it means only when sizes and biases stand behind the sum, and when signs
are read as they are and not as (signs - v) + v.
"""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.match import Draft
from graphrewrite.passes.binary.layers import Layer, layers_of
from graphrewrite.passes.binary.signs import Floats


def make_plain(model: Model, zero_is_plus: bool) -> None:
    """Write layers of signs as such, so that what the graph computes is exact up to the sum."""
    draft = Draft(model)
    for layer in list(layers_of(draft)):
        if isinstance(layer, Layer) and not (
            layer.is_plain and (layer.signs.threshold is not None or not zero_is_plus)
        ):
            _write_plain(draft, layer, zero_is_plus)
    draft.close()


def _write_plain(draft: Draft, layer: Layer, zero_is_plus: bool) -> None:
    """Move the sizes and the bias of a layer behind it, and choose its input from +1 and -1.

    With `zero_is_plus` the operator Sign becomes such a choice too.
    """
    draft.anchor = layer.node
    signs = _signs(draft, layer, zero_is_plus)
    stored = np.where(layer.plus, np.float32(1), np.float32(-1))
    old = layer.node.inputs[1]
    origin = (old, "the signs of") if isinstance(old, gs.Constant) else None
    shape, like = draft.shape(layer.node.outputs[0]), layer.node.outputs[0]
    if layer.kind == "conv":
        weight = draft.add_constant(stored, f"{old.name}_signs", origin)
        out = draft.op("Conv", signs, weight, like=like, shape=shape, attrs=dict(layer.node.attrs))
    else:
        weight = draft.add_constant(np.ascontiguousarray(stored.T), f"{old.name}_signs", origin)
        out = draft.op("MatMul", signs, weight, like=like, shape=shape)
    if (layer.scale != 1).any():
        out = draft.op("Mul", out, _each(draft, layer, layer.scale, "size"), like=like, shape=shape)
    if layer.bias is not None:
        out = draft.op("Add", out, _each(draft, layer, layer.bias, "bias"), like=like, shape=shape)
    draft.replace(layer.node.outputs[0], out)


def _signs(draft: Draft, layer: Layer, zero_is_plus: bool) -> gs.Tensor:
    """Return the layer's input as +1 and -1."""
    threshold = layer.signs.threshold
    if threshold is None and zero_is_plus:
        threshold = np.zeros(1, np.float32)
    elif threshold is None or layer.signs.size == 1.0:
        return layer.signs.tensor
    x = layer.signs.x
    reached = draft.op("GreaterOrEqual", x, _each(draft, layer, threshold, "threshold"))
    draft.describe(reached, draft.shape(x), np.dtype(np.bool_))
    plus, minus = (draft.add_constant(np.array(value, np.float32), "sign") for value in (1, -1))
    return draft.op("Where", reached, plus, minus, like=x)


def _each(draft: Draft, layer: Layer, values: Floats, what: str) -> gs.Constant:
    """File numbers that stand one per channel, or one for all."""
    shape = (-1, 1, 1) if layer.kind == "conv" and values.size > 1 else (-1,) if values.size > 1 else ()
    return draft.add_constant(np.asarray(values, np.float32).reshape(shape), f"{layer.name}_{what}")
