"""Writing quantised layers into a graph: as operators that skip blocks of zeros, or dense in standard operators."""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite import custom_ops
from graphrewrite.custom_ops.quads import pack
from graphrewrite.custom_ops.spec import Value
from graphrewrite.ir import Array
from graphrewrite.match import Draft
from graphrewrite.passes.sparse.activations import activation_of
from graphrewrite.passes.sparse.quantised_conv import QuantisedConv
from graphrewrite.passes.sparse.quantised_product import QuantisedProduct


def write_sparse(draft: Draft, layer: QuantisedConv | QuantisedProduct) -> str:
    """Put a QBlockSparse operator in the place of a layer and return its name."""
    draft.anchor = layer.node
    blocks = pack(layer.weight)
    stem = layer.weight_name.name
    packed = (
        draft.add_constant(
            blocks.blocks, f"{stem}_blocks", (layer.weight_name, "the blocks that are not zero of")
        ),
        draft.add_constant(blocks.positions, f"{stem}_positions"),
    )
    outputs, inputs = layer.weight.shape[:2]
    if isinstance(layer, QuantisedConv):
        made = _node(
            draft,
            "QBlockSparseConv",
            layer.y,
            {"in_channels": inputs, "out_channels": outputs, **_window(layer)},
            layer.x,
            *_constants(draft, stem, x_scale=layer.x_scale.step, x_zero_point=layer.x_scale.zero),
            *packed,
            *_constants(
                draft,
                stem,
                w_scale=layer.steps,
                y_scale=layer.y_scale.step,
                y_zero_point=layer.y_scale.zero,
                bias=layer.bias,
            ),
        )
        draft.replace(layer.y, made)
        return "QBlockSparseConv"
    active = activation_of(draft, layer.y)
    attributes: dict[str, Value] = {
        "in_features": inputs,
        "out_features": outputs,
        "activation": active.number,
        "low": active.low,
        "high": active.high,
    }
    scales = _constants(draft, stem, w_scale=layer.steps, bias=layer.bias)
    made = _node(draft, "QBlockSparseMatMul", active.output, attributes, layer.x, *packed, *scales)
    draft.replace(active.output, made)
    return "QBlockSparseMatMul"


def write_dense(draft: Draft, layer: QuantisedConv | QuantisedProduct) -> None:
    """Put in the place of a layer what it means: QLinearConv, or a product of rows rounded one by one."""
    draft.anchor = layer.node
    stem = layer.weight_name.name
    if isinstance(layer, QuantisedConv):
        constants = _constants(
            draft,
            stem,
            x_scale=layer.x_scale.step,
            x_zero_point=layer.x_scale.zero,
            weight=layer.weight,
            w_scale=layer.steps,
            w_zero_point=np.zeros((), np.int8),
            y_scale=layer.y_scale.step,
            y_zero_point=layer.y_scale.zero,
            bias=layer.bias,
        )
        made = draft.op("QLinearConv", layer.x, *constants, like=layer.y, attrs=dict(_window(layer)))
        draft.replace(layer.y, made)
        return

    def op(name: str, *inputs: gs.Tensor, outputs: int = 1, **attributes: object) -> gs.Variable:
        return draft.op(name, *inputs, like=layer.x, outputs=outputs, attrs=attributes)

    one, nought, levels, tiny, unit, weight, steps, bias = _constants(
        draft,
        stem,
        one=np.ones(1, np.int64),
        nought=np.zeros((), np.float32),
        levels=np.array(255, np.float32),
        tiny=np.finfo(np.float32).tiny.astype(np.float32),
        unit=np.ones((), np.float32),
        weight=layer.weight.T.astype(np.float32),
        w_scale=layer.steps,
        bias=layer.bias,
    )
    above = op("Max", op("TopK", layer.x, one, outputs=2, axis=-1), nought)
    below = op("Max", op("TopK", op("Neg", layer.x), one, outputs=2, axis=-1), nought)
    level = op("Div", op("Add", above, below), levels)
    scale = op("Where", op("GreaterOrEqual", level, tiny), level, unit)
    zero = op("Round", op("Div", below, scale))
    shifted = op("Add", op("Round", op("Div", layer.x, scale)), zero)
    rounded = op("Sub", op("Clip", shifted, nought, levels), zero)
    sums = op("MatMul", rounded, weight)
    made = draft.op("Add", op("Mul", sums, op("Mul", scale, steps)), bias, like=layer.y)
    draft.replace(layer.y, made)


def _window(layer: QuantisedConv) -> dict[str, Value]:
    return {
        "kernel_shape": [int(size) for size in layer.weight.shape[2:]],
        "strides": layer.strides,
        "pads": layer.pads,
        "dilations": layer.dilations,
    }


def _constants(draft: Draft, stem: str, **values: Array | np.float32) -> list[gs.Constant]:
    return [draft.add_constant(np.asarray(value), f"{stem}_{name}") for name, value in values.items()]


def _node(
    draft: Draft, op: str, like: gs.Tensor, attributes: dict[str, Value], *inputs: gs.Tensor
) -> gs.Variable:
    filled = custom_ops.find(op).filled(attributes)
    return draft.op(op, *inputs, like=like, domain=custom_ops.DOMAIN, attrs=filled)
