"""Operators that work element by element: the shape is the broadcast of the inputs' shapes."""

import numpy as np
import onnx

from graphrewrite.ir.shape_rules.call import BOOL, FLOAT32, Call, Shape, shape_rule
from graphrewrite.ir.sizes import broadcast
from graphrewrite.ir.values import onnx_dtype_to_numpy

# fmt: off
UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Celu", "Clip", "Cos",
    "Cosh", "CumProd", "CumSum", "Elu", "Erf", "Exp", "Floor", "Gelu", "GroupNormalization", "HardSigmoid",
    "HardSwish", "Hardmax", "Identity", "InstanceNormalization", "LRN", "LeakyRelu", "Log", "LogSoftmax",
    "LpNormalization", "MeanVarianceNormalization", "Mish", "Neg", "Not", "PRelu", "RMSNormalization",
    "Reciprocal", "Relu", "ReverseSequence", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh",
    "Softmax", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Trilu",
)
# fmt: on


def broadcast_shapes(shapes: list[Shape]) -> Shape:
    """Return the shape that several shapes have together, aligned at their last axes."""
    if len(shapes) == 2 and shapes[0] == shapes[1]:
        return shapes[0]
    rank = max(len(shape) for shape in shapes)
    out = list(next(shape for shape in shapes if len(shape) == rank))
    for shape in shapes:
        offset = rank - len(shape)
        for axis, dim in enumerate(shape):
            if out[offset + axis] is not dim:
                out[offset + axis] = broadcast(out[offset + axis], dim)
    return tuple(out)


def put_broadcast(call: Call) -> None:
    """Put the broadcast shape of all given inputs for output 0."""
    shapes = []
    for index in range(len(call.names)):
        if not call.has(index):
            continue
        shapes.append(call.known(index))
    call.put(0, broadcast_shapes(shapes))


@shape_rule(*UNARY)
def same_shape(call: Call) -> None:
    """Pass the shape of input 0."""
    if call.node.op == "Identity" and call.names[0] in call.sweep.stored:
        call.sweep.stored[call.outputs[0]] = call.sweep.stored[call.names[0]]
    if call.names[0] in call.sweep.sequences:
        call.sweep.sequences[call.outputs[0]] = call.sweep.sequences[call.names[0]]
        return
    call.put(0, call.shape(0))


@shape_rule("IsInf", "IsNaN", dtype=BOOL)
def tests(call: Call) -> None:
    """Pass the shape of input 0 to a tensor of booleans."""
    call.put(0, call.shape(0))


@shape_rule(
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Mod",
    "Min",
    "Max",
    "Sum",
    "Mean",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
)
def arithmetic(call: Call) -> None:
    """Broadcast all inputs (below opset 7 input 1 is laid over input 0 from an axis on)."""
    if call.opset < 7 and call.node.op in ("Add", "Sub", "Mul", "Div", "Pow"):
        call.put(0, call.shape(0))
    else:
        put_broadcast(call)


@shape_rule("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", dtype=BOOL)
def comparison(call: Call) -> None:
    """Broadcast both inputs to booleans."""
    if call.opset < 7:
        call.put(0, call.shape(0))
    else:
        put_broadcast(call)


@shape_rule("Where")
def where(call: Call) -> None:
    """Broadcast condition and both branches; the type is that of the branches."""
    call.put(0, None, call.dtype(1) or call.dtype(2))
    put_broadcast(call)


@shape_rule("Cast", "BitCast")
def cast(call: Call) -> None:
    """Pass the shape; the type is the attribute `to`."""
    target = call.attribute("to")
    if isinstance(target, str):
        target = onnx.TensorProto.DataType.Value(target)
    call.sweep.dtypes.pop(call.outputs[0], None)
    if isinstance(target, int):
        call.put(0, call.shape(0), onnx_dtype_to_numpy(target))


@shape_rule("CastLike")
def cast_like(call: Call) -> None:
    """Pass the shape of input 0 and the type of input 1."""
    call.sweep.dtypes.pop(call.outputs[0], None)
    call.put(0, call.shape(0), call.dtype(1))


@shape_rule("Dropout")
def dropout(call: Call) -> None:
    """Pass the shape; the mask is boolean from opset 10 on."""
    call.put(0, call.shape(0))
    call.put(1, call.shape(0), BOOL if call.opset >= 10 else None)


@shape_rule("Bernoulli", "RandomNormalLike", "RandomUniformLike", "EyeLike")
def like(call: Call) -> None:
    """Pass the shape of input 0; the type may be given by an attribute."""
    dtype = call.integer("dtype", 0)
    call.put(0, call.shape(0), onnx_dtype_to_numpy(dtype) if dtype else None)


@shape_rule("RegexFullMatch", dtype=BOOL)
def match(call: Call) -> None:
    """Pass the shape of the strings."""
    call.put(0, call.shape(0))


@shape_rule("StringConcat", dtype=np.object_)
def string_concat(call: Call) -> None:
    """Broadcast both inputs."""
    put_broadcast(call)


@shape_rule("DynamicQuantizeLinear", dtype=FLOAT32)
def dynamic_quantize(call: Call) -> None:
    """Pass the shape; scale and zero point are scalars."""
    call.put(0, call.shape(0), np.dtype(np.uint8))
    call.put(1, (), FLOAT32)
    call.put(2, (), np.dtype(np.uint8))


@shape_rule("QuantizeLinear")
def quantize(call: Call) -> None:
    """Pass the shape; the type is that of the zero point, or given by an attribute, or unsigned bytes."""
    given = call.integer("output_dtype", 0)
    zero = call.dtype(2) if call.has(2) else None
    call.put(0, call.shape(0), zero or (onnx_dtype_to_numpy(given) if given else np.dtype(np.uint8)))


@shape_rule("DequantizeLinear")
def dequantize(call: Call) -> None:
    """Pass the shape; the type is that of the scale, or given by an attribute."""
    given = call.integer("output_dtype", 0)
    call.sweep.dtypes.pop(call.outputs[0], None)
    call.put(0, call.shape(0), onnx_dtype_to_numpy(given) if given else call.dtype(1))
