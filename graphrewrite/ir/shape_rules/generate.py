"""Operators whose output comes from numbers: constants, ranges, random tensors, windows."""

import math

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir.shape_rules.call import FLOAT32, VALUE_LIMIT, Call, Unknown, shape_rule
from graphrewrite.ir.sizes import ceil_div, positive_part, product
from graphrewrite.ir.symbols import Dim, Real, Sym
from graphrewrite.ir.values import array_of, onnx_dtype_to_numpy


@shape_rule("Constant")
def constant(call: Call) -> None:
    """A stored tensor in one of several attributes."""
    for name in call.node.attrs:
        value = call.attribute(name)
        if isinstance(value, gs.Constant):
            call.sweep.file(call.outputs[0], value._values)
        elif name in ("value_float", "value_floats"):
            call.sweep.file(call.outputs[0], np.asarray(value, dtype=np.float32))
        elif name in ("value_int", "value_ints"):
            call.sweep.file(call.outputs[0], np.asarray(value, dtype=np.int64))
        elif name in ("value_string", "value_strings"):
            call.sweep.file(call.outputs[0], np.asarray(value, dtype=object))


@shape_rule("ConstantOfShape", dtype=FLOAT32)
def constant_of_shape(call: Call) -> None:
    """One number repeated; float32 zero by default."""
    given = call.attribute("value")
    fill = array_of(given) if isinstance(given, gs.Constant) else np.zeros(1, dtype=np.float32)
    call.put(0, None, fill.dtype)
    target = call.ints(0)
    if target is None:
        raise Unknown
    call.put(0, target)
    numbers = [dim for dim in target if isinstance(dim, int)]
    if len(numbers) == len(target) and math.prod(numbers) <= VALUE_LIMIT:
        call.put(0, None, None, np.full(numbers, fill.reshape(-1)[0]))


@shape_rule("Range")
def range_(call: Call) -> None:
    """As many numbers as fit between start and limit."""
    start, limit, step = (call.elements(index) for index in range(3))
    if start is None or limit is None or step is None:
        call.put(0, (call.unknown(),))
        return
    first, last, stride = (
        start.reshape(-1).tolist()[0],
        limit.reshape(-1).tolist()[0],
        step.reshape(-1).tolist()[0],
    )
    length: Dim
    if isinstance(stride, (Sym, Real)) or isinstance(first, Real) or isinstance(last, Real):
        length = call.unknown()
    elif isinstance(first, Sym) or isinstance(last, Sym):
        if not float(stride).is_integer() or not stride:
            length = call.unknown()
        else:
            length = positive_part(_steps(first, last, int(stride)))
    else:
        length = max(math.ceil((last - first) / stride), 0)
    call.put(0, (length,))


def _steps(first: Dim, last: Dim, stride: int) -> Dim:
    return ceil_div(last - first, stride) if stride > 0 else ceil_div(first - last, -stride)


@shape_rule("RandomNormal", "RandomUniform", dtype=FLOAT32)
def random(call: Call) -> None:
    """Shape and type are attributes."""
    call.put(0, call.integers("shape"), onnx_dtype_to_numpy(call.integer("dtype", 1)))


@shape_rule("Multinomial", dtype=np.int32)
def multinomial(call: Call) -> None:
    """Samples per row."""
    call.put(
        0, (call.known(0)[0], call.integer("sample_size", 1)), onnx_dtype_to_numpy(call.integer("dtype", 6))
    )


@shape_rule("HannWindow", "HammingWindow", "BlackmanWindow", dtype=FLOAT32)
def window(call: Call) -> None:
    """A vector as long as input 0 says."""
    call.put(0, None, onnx_dtype_to_numpy(call.integer("output_datatype", 1)))
    length = call.ints(0)
    call.put(0, None if length is None else (product(length),))


@shape_rule("MelWeightMatrix", dtype=FLOAT32)
def mel_weights(call: Call) -> None:
    """[half the transform + 1, bins]."""
    call.put(0, None, onnx_dtype_to_numpy(call.integer("output_datatype", 1)))
    bins, length = call.ints(0), call.ints(1)
    if bins is None or length is None:
        raise Unknown
    call.put(0, (length[0] // 2 + 1, bins[0]))
