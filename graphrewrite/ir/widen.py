"""The same graph in more digits: for checking a rewrite of a model without the rounding of its element type.

A cut of a float16 model cannot be compared with its reference at 1e-5: sums in another order differ by 1e-3. Both are
widened by this one function and compared in float32, where a real difference shows; in float64 where float32 is too
coarse as well.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.inline import inlined
from graphrewrite.ir.model import Model
from graphrewrite.ir.values import Array, array_of, numpy_dtype_to_onnx, onnx_dtype_to_numpy

DType = np.dtype[np.generic]

_NARROW_NUMBERS = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
_SINGLE = np.dtype(np.float32)
# Integer attributes that name an element type.
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "stash_type", "output_dtype", "softmax_precision"})


def is_narrow(model: Model) -> bool:
    """Whether a model computes in float16 or bfloat16 anywhere its constants, inputs or casts show it."""
    for graph in all_graphs(model.graph):
        if any(_narrow(tensor.dtype, _SINGLE) for tensor in (*graph.initializers.values(), *graph.inputs)):
            return True
        for node in graph.nodes:
            if any(_narrow_attribute(name, value, _SINGLE) for name, value in node.attrs.items()):
                return True
    return False


def widened(model: Model, to: DType = _SINGLE) -> Model:
    """Return a clone in which every float type narrower than `to` has become it; feeds must be widened as well.

    Functions are written out first: what stands in their bodies must become wide too, and kernels know one type only.
    """
    plain = inlined(model, keep=())
    copy = model.clone() if plain is model else plain
    for graph in all_graphs(copy.graph):
        for constant in graph.initializers.values():
            _widen_constant(constant, to)
        for tensor in (*graph.inputs, *graph.outputs):
            _widen_variable(tensor, to)
        for node in graph.nodes:
            for tensor in node.outputs:
                _widen_variable(tensor, to)
            for name, value in node.attrs.items():
                if isinstance(value, gs.Constant):
                    _widen_constant(value, to)
                elif _narrow_attribute(name, value, to):
                    node.attrs[name] = numpy_dtype_to_onnx(to)
    return copy


def widen_feeds(feeds: Mapping[str, Array], to: DType = _SINGLE) -> dict[str, Array]:
    """Return feeds in the type `to` where they were narrower floats."""
    return {name: array.astype(to) if _narrow(array.dtype, to) else array for name, array in feeds.items()}


def _narrow(dtype: object, to: DType) -> bool:
    """Tell whether a float type (a number of the format's own, an object numpy knows, or nothing) is below `to`."""
    if dtype is None or isinstance(dtype, int):
        return False
    found = np.dtype(dtype)  # type: ignore[call-overload]
    return any(found == onnx_dtype_to_numpy(number) for number in _below(to))


def _narrow_attribute(name: str, value: object, to: DType) -> bool:
    if isinstance(value, gs.Constant):
        return _narrow(value.dtype, to)
    return name in _TYPE_ATTRIBUTES and value in _below(to)


def _below(to: DType) -> tuple[int, ...]:
    return _NARROW_NUMBERS if to == _SINGLE else (*_NARROW_NUMBERS, onnx.TensorProto.FLOAT)


def _widen_constant(constant: gs.Constant, to: DType) -> None:
    if _narrow(constant.dtype, to):
        array = array_of(constant).astype(to)
        array.flags.writeable = False
        constant.values = array


def _widen_variable(tensor: gs.Tensor, to: DType) -> None:
    if isinstance(tensor, gs.Variable) and _narrow(tensor.dtype, to):
        tensor.dtype = to
        tensor.info = None
