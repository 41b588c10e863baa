"""The same graph in single precision: for checking a rewrite of a half-precision model without its rounding.

A cut of a float16 model cannot be compared with its reference at 1e-5: sums in another order differ by 1e-3. Both are
widened by this one function and compared in float32, where a real difference shows.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.model import Model
from graphrewrite.ir.values import Array, array_of, onnx_dtype_to_numpy

_NARROW_NUMBERS = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
_NARROW = tuple(onnx_dtype_to_numpy(number) for number in _NARROW_NUMBERS)
# Integer attributes that name an element type.
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "stash_type", "output_dtype", "softmax_precision"})


def is_narrow(model: Model) -> bool:
    """Whether a model computes in float16 or bfloat16 anywhere its constants, inputs or casts show it."""
    for graph in all_graphs(model.graph):
        if any(
            _narrow(tensor.dtype)
            for tensor in (*graph.initializers.values(), *graph.inputs)
            if tensor.dtype is not None
        ):
            return True
        for node in graph.nodes:
            if any(_narrow_attribute(name, value) for name, value in node.attrs.items()):
                return True
    return False


def widened(model: Model) -> Model:
    """Return a clone in which float16 and bfloat16 have become float32; feeds must be widened as well."""
    copy = model.clone()
    for graph in all_graphs(copy.graph):
        for constant in graph.initializers.values():
            _widen_constant(constant)
        for tensor in (*graph.inputs, *graph.outputs):
            _widen_variable(tensor)
        for node in graph.nodes:
            for tensor in node.outputs:
                _widen_variable(tensor)
            for name, value in node.attrs.items():
                if isinstance(value, gs.Constant):
                    _widen_constant(value)
                elif _narrow_attribute(name, value):
                    node.attrs[name] = int(onnx.TensorProto.FLOAT)
    return copy


def widen_feeds(feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return feeds in float32 where they were narrower."""
    return {
        name: array.astype(np.float32) if array.dtype in _NARROW else array for name, array in feeds.items()
    }


def _narrow(dtype: object) -> bool:
    return not isinstance(dtype, int) and dtype is not None and np.dtype(dtype) in _NARROW  # type: ignore[call-overload]


def _narrow_attribute(name: str, value: object) -> bool:
    if isinstance(value, gs.Constant):
        return _narrow(value.dtype)
    return name in _TYPE_ATTRIBUTES and value in _NARROW_NUMBERS


def _widen_constant(constant: gs.Constant) -> None:
    if _narrow(constant.dtype):
        array = array_of(constant).astype(np.float32)
        array.flags.writeable = False
        constant.values = array


def _widen_variable(tensor: gs.Tensor) -> None:
    if isinstance(tensor, gs.Variable) and _narrow(tensor.dtype):
        tensor.dtype = np.dtype(np.float32)
        tensor.info = None
