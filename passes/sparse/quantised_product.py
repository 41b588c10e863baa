"""Products of floats with int8 weights whose inputs are quantised on the way, and products of floats made such."""

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.match import Draft, is_default_domain
from graphrewrite.passes.sparse.quantised_conv import Floats, Int8s, int8_weight, too_large
from graphrewrite.passes.tidy.linear import bias_vector, read_linear
from graphrewrite.passes.tidy.reading import integer, real, source

_FLOAT = 1  # number of the type float32


@dataclass(frozen=True)
class QuantisedProduct:
    """y = x . weight * steps + bias, with x rounded to 255 levels on the way.

    `weight` is [outputs, inputs], `steps` and `bias` are [outputs]; `node` is the product itself. `dense` names the
    form in which onnxruntime runs it as it stands.
    """

    node: gs.Node
    x: gs.Tensor
    y: gs.Tensor
    weight: Int8s
    weight_name: gs.Tensor
    steps: Floats
    bias: Floats
    dense: str


def read_quantised_product(draft: Draft, node: gs.Node) -> QuantisedProduct | str | None:
    """Read MatMulInteger behind DynamicQuantizeLinear, or DynamicQuantizeMatMul, with the sums and scales that follow.

    A text says what keeps a node that looks like one; None is anything else.
    """
    if node.op == "DynamicQuantizeMatMul" and node.domain == "com.microsoft":
        return _fused(draft, node)
    if node.op == "MatMulInteger" and is_default_domain(node):
        return _spread(draft, node)
    return None


def read_float_product(draft: Draft, node: gs.Node) -> QuantisedProduct | str | None:
    """Read a Gemm or MatMul of floats, its weights rounded to the nearest of 255 levels per output.

    Weights that are dequantised from int8 stay what they are.
    """
    if node.op not in ("MatMul", "Gemm") or not is_default_domain(node):
        return None
    maker = draft.producer(node.inputs[1])
    if (
        node.op == "MatMul"
        and maker is not None
        and maker.op == "DequantizeLinear"
        and is_default_domain(maker)
    ):
        if integer(maker, "block_size", 0) or (
            maker.inputs[1].shape and integer(maker, "axis", 1) not in (1, -1)
        ):
            return "its weights have scales along another axis than the outputs"
        found = int8_weight(draft, maker.inputs[0], maker.inputs[1], source(maker, 2))
        if isinstance(found, str):
            return found
        return _built(
            draft, node, node.inputs[0], node.outputs[0], maker.inputs[0], found[0], found[1], None, "MatMul"
        )
    linear = read_linear(draft, node)
    stored = None if linear is None else draft.constant(linear.weight)
    if linear is None or stored is None:
        return None
    if stored.dtype != np.float32 or not np.isfinite(stored.astype(np.float64)).all():
        return "its weights are not finite float32"
    if node.inputs[1] is not linear.weight or integer(node, "transA", 0):
        return "its constant is not the right-hand matrix"
    floats = stored.astype(np.float64)
    if node.op == "Gemm":
        floats = floats * real(node, "alpha", 1.0)
        floats = floats.T if integer(node, "transB", 0) else floats
    largest = np.abs(floats).max(axis=0, initial=0.0)  # [outputs]
    steps = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
    weight = np.clip(np.rint(floats / steps), -127, 127).astype(np.int8)
    bias = bias_vector(draft, linear) if node.op == "Gemm" else None
    return _built(
        draft,
        node,
        node.inputs[0],
        node.outputs[0],
        linear.weight,
        weight,
        steps,
        None if bias is None else bias.astype(np.float32),
        "MatMul",
    )


def _spread(draft: Draft, node: gs.Node) -> QuantisedProduct | str:
    quantiser = draft.producer(node.inputs[0])
    if (
        quantiser is None
        or quantiser.op != "DynamicQuantizeLinear"
        or source(node, 2) is not quantiser.outputs[2]
    ):
        return "its inputs are not quantised by DynamicQuantizeLinear"
    scale = quantiser.outputs[1]
    cast = draft.sole_user(node.outputs[0])
    if cast is None or cast.op != "Cast" or integer(cast, "to", 0) != _FLOAT:
        return "its sums are not turned into floats"
    product = draft.sole_user(cast.outputs[0])
    if product is None or product.op != "Mul":
        return "its sums are not scaled"
    other = product.inputs[1] if product.inputs[0] is cast.outputs[0] else product.inputs[0]
    y = product.outputs[0]
    if other is scale:
        last = draft.sole_user(y)
        if last is None or last.op != "Mul":
            return "its sums are not scaled by the weights' scale"
        step = last.inputs[1] if last.inputs[0] is y else last.inputs[0]
        y = last.outputs[0]
    else:
        both = draft.producer(other)
        if both is None or both.op != "Mul" or not any(tensor is scale for tensor in both.inputs):
            return "its sums are not scaled by the scales of its inputs and weights"
        step = both.inputs[1] if both.inputs[0] is scale else both.inputs[0]
    found = int8_weight(draft, node.inputs[1], step, source(node, 3))
    if isinstance(found, str):
        return found
    return _built(
        draft, node, quantiser.inputs[0], y, node.inputs[1], found[0], found[1], None, "MatMulInteger"
    )


def _fused(draft: Draft, node: gs.Node) -> QuantisedProduct | str:
    found = int8_weight(draft, node.inputs[1], node.inputs[2], source(node, 3))
    if isinstance(found, str):
        return found
    bias = source(node, 4)
    added = None if bias is None else draft.constant(bias)
    if bias is not None and (added is None or added.dtype != np.float32):
        return "its bias is not constant float32"
    return _built(
        draft,
        node,
        node.inputs[0],
        node.outputs[0],
        node.inputs[1],
        found[0],
        found[1],
        None if added is None else added.astype(np.float32),
        "MatMulInteger",
    )


def _built(
    draft: Draft,
    node: gs.Node,
    x: gs.Tensor,
    y: gs.Tensor,
    name: gs.Tensor,
    stored: Int8s,
    steps: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
    bias: Floats | None,
    dense: str,
) -> QuantisedProduct | str:
    if stored.ndim != 2 or steps.size not in (1, stored.shape[1]):
        return "its weight is not a matrix with a scale for each output"
    if draft.dtype(x) not in (None, np.dtype(np.float32)):
        return f"it multiplies {draft.dtype(x)}; the kernel takes float32"
    outputs = stored.shape[1]
    if bias is None:
        bias, y = _with_sum(draft, y, outputs)
    obstacle = too_large(np.ascontiguousarray(stored.T), np.zeros(1, np.int64))
    if obstacle or bias.shape != (outputs,) or not np.isfinite(bias).all():
        return obstacle or "its bias is not a finite vector"
    return QuantisedProduct(
        node,
        x,
        y,
        np.ascontiguousarray(stored.T),
        name,
        np.broadcast_to(steps.reshape(-1), outputs).astype(np.float32),
        bias,
        dense,
    )


def _with_sum(draft: Draft, y: gs.Tensor, outputs: int) -> tuple[Floats, gs.Tensor]:
    """Return the constant vector that is added to `y` and the sum, or zeros and `y` itself."""
    adder = draft.sole_user(y)
    if adder is not None and adder.op == "Add" and is_default_domain(adder):
        for side in (0, 1):
            if adder.inputs[side] is y and draft.is_constant(adder.inputs[1 - side]):
                values = draft.constant(adder.inputs[1 - side])
                if values is not None and values.shape == (outputs,) and values.dtype == np.float32:
                    return values.astype(np.float32), adder.outputs[0]
    return np.zeros(outputs, np.float32), y
