"""Which constants are weights, how many numbers they hold, and what they take in a file.

Weights are the numbers a model learned: constants of a floating type, quantized ones (integers of at most eight bits),
and the wider integers that quantized layers read as weights and biases. Shapes, indices, axes and masks are not, nor
are the constants that only set up an operator, such as the bounds of Clip or the scales of Resize.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from graphrewrite.cost.registry import Key
from graphrewrite.ir.values import is_sparse, numpy_dtype_to_onnx, stored_type, tensor_bytes

_WIDE = frozenset({TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32})
_NO_WEIGHT = frozenset(
    {
        TensorProto.BOOL,
        TensorProto.STRING,
        TensorProto.UINT32,
        TensorProto.INT64,
        TensorProto.UINT64,
    }
)

# Inputs of a floating type that steer an operator instead of being multiplied or added.
_SETTINGS: Mapping[Key, frozenset[int]] = {
    ("", "Clip"): frozenset({1, 2}),
    ("", "Dropout"): frozenset({1, 2}),
    ("", "NonMaxSuppression"): frozenset({3, 4}),
    ("", "OneHot"): frozenset({1, 2}),
    ("", "Pad"): frozenset({2}),
    ("", "Range"): frozenset({0, 1, 2}),
    ("", "Resize"): frozenset({1, 2}),
    ("", "Upsample"): frozenset({1}),
}
# Inputs where integers of 16 and 32 bits are quantized weights or biases.
_WIDE_WEIGHTS: Mapping[Key, frozenset[int]] = {
    ("", "QLinearConv"): frozenset({8}),
    ("", "DequantizeLinear"): frozenset({0}),
    ("com.microsoft", "DequantizeLinear"): frozenset({0}),
    ("com.microsoft", "QGemm"): frozenset({6}),
}
# Bytes that each hold several numbers: (operator, input) -> numbers in the tensor, from its element count and the node.
_PACKED: Mapping[tuple[Key, int], Callable[[gs.Node, int], int]] = {
    (("com.microsoft", "MatMulNBits"), 1): lambda node, count: _rows_times_columns(node, count),
    (("com.microsoft", "MatMulBnb4"), 1): lambda node, count: _rows_times_columns(node, count),
    (("com.microsoft", "GatherBlockQuantized"), 0): lambda node, count: (
        count * 8 // int(node.attrs.get("bits", 4))
    ),
    **{
        (("com.microsoft", "QMoE"), index): lambda node, count: (
            count * 8 // int(node.attrs.get("expert_weight_bits", 4))
        )
        for index in (2, 5, 8)
    },
}
_PACKED_OPS = frozenset(key for key, _ in _PACKED)


class Held(NamedTuple):
    """A constant as it is stored: an identity that all its readers share, element type, element count, bytes."""

    identity: tuple[str, str]
    data_type: int
    elements: int
    stored: int


def held_by(tensor: gs.Tensor, scope: str) -> Held | None:
    """Describe a constant without reading its numbers; None for a tensor that is not constant.

    `scope` says which graph the tensor belongs to, since names are only unique within one.
    """
    if isinstance(tensor, gs.Constant):
        return _describe(tensor, (scope, tensor.name))
    if len(tensor.inputs) != 1 or tensor.inputs[0].op != "Constant":
        return None
    for name, value in tensor.inputs[0].attrs.items():
        if isinstance(value, gs.Constant):
            return _describe(value, (scope, tensor.name))
        if name == "value_float":
            return Held((scope, tensor.name), TensorProto.FLOAT, 1, 4)
        if name == "value_floats" and isinstance(value, list):
            return Held((scope, tensor.name), TensorProto.FLOAT, len(value), 4 * len(value))
    return None


def learned(held: Held) -> int:
    """Return how many learned numbers a constant holds that a graph returns as it is."""
    return 0 if held.data_type in _NO_WEIGHT or held.data_type in _WIDE else held.elements


def weight_numbers(node: gs.Node, key: Key, index: int, held: Held) -> int:
    """Return how many learned numbers input `index` of a node brings; zero when it is no weight there."""
    if held.data_type in _NO_WEIGHT or index in _SETTINGS.get(key, ()):
        return 0
    if held.data_type in _WIDE and index not in _WIDE_WEIGHTS.get(key, ()):
        return 0
    if key in _PACKED_OPS and (key, index) in _PACKED:
        return _PACKED[key, index](node, held.elements)
    return held.elements


def is_setting(key: Key, index: int) -> bool:
    """Whether a floating input steers an operator (scales of Resize, bounds of Clip) instead of being computed with."""
    return index in _SETTINGS.get(key, ())


def per_element(node: gs.Node, key: Key, index: int, elements: int) -> float:
    """Return how many learned numbers one element of a weight holds: more than one where bytes are shared."""
    packed = _PACKED.get((key, index))
    return packed(node, elements) / elements if packed is not None and elements else 1.0


def attribute_numbers(node: gs.Node) -> int:
    """Return the learned numbers in a node's attributes, which is where ai.onnx.ml keeps them."""
    if node.domain != "ai.onnx.ml":
        return 0
    lists = (value for value in node.attrs.values() if isinstance(value, list))
    return sum(len(value) for value in lists if value and isinstance(value[0], float))


def bits_of(dtype: np.dtype[np.generic]) -> int:
    """Return the bits one element takes when stored; sub-byte types are packed, strings count zero."""
    return tensor_bytes(numpy_dtype_to_onnx(dtype), (8,))


def _describe(constant: gs.Constant, identity: tuple[str, str]) -> Held:
    number = stored_type(constant)
    if is_sparse(constant):
        values, indices = constant._values.tensor.values, constant._values.tensor.indices
        size = tensor_bytes(number, tuple(values.dims)) + tensor_bytes(indices.data_type, tuple(indices.dims))
        return Held(identity, number, prod(values.dims), size)
    shape = tuple(constant.shape)
    return Held(identity, number, prod(shape), tensor_bytes(number, shape))


def _rows_times_columns(node: gs.Node, count: int) -> int:
    rows, columns = node.attrs.get("N"), node.attrs.get("K")
    return rows * columns if isinstance(rows, int) and isinstance(columns, int) else count
