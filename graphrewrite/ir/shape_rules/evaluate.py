"""Values without a symbolic rule: the node is computed with onnx's reference implementation, once per sample world."""

import warnings

import numpy as np
import onnx

from graphrewrite.ir.codec import write_attribute
from graphrewrite.ir.shape_rules.call import FLOAT_LIMIT, VALUE_LIMIT, Call, DType, Unknown, bound_attributes
from graphrewrite.ir.symbols import Real, Sym
from graphrewrite.ir.values import Array

# Operators the reference implementation computes as runtimes do; others (Resize, random numbers) are left alone.
# fmt: off
COMPUTED = frozenset(
    (
        "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "BitShift",
        "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Clip", "Compress",
        "Concat", "Cos", "Cosh", "CumSum", "Div", "Elu", "Equal", "Erf", "Exp", "Expand",
        "EyeLike", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gemm", "Greater",
        "GreaterOrEqual", "HardSigmoid", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual",
        "Log", "MatMul", "Max", "Mean", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "OneHot", "Or", "Pad",
        "Pow", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
        "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round",
        "ScatterElements", "ScatterND", "Sigmoid", "Sign", "Sin", "Sinh", "Slice", "Softmax", "Split", "Sqrt",
        "Squeeze", "Sub", "Sum", "Tan", "Tanh", "Tile", "TopK", "Transpose", "Trilu", "Unique", "Unsqueeze",
        "Where", "Xor",
    )
)
# fmt: on


def tidied(array: Array, dtype: DType | None) -> Array:
    """Return an object array without symbolic elements as a plain array of the given type; others as they are."""
    if array.dtype != object:
        return array
    if any(isinstance(item, (Sym, Real)) for item in array.reshape(-1).tolist()):
        return array
    return array.astype(dtype or np.int64)


def in_world(array: Array, world: int, dtype: DType | None) -> Array | None:
    """Return a value with every symbolic element replaced by its number in a sample world, None if one has none."""
    if array.dtype != object:
        return array
    numbers: list[object] = []
    for item in array.reshape(-1).tolist():
        number = item.sample[world] if isinstance(item, (Sym, Real)) else item
        if number is None:
            return None
        numbers.append(number)
    kind = dtype if dtype is not None and dtype.kind != "O" else np.dtype(np.int64)
    return np.array(numbers, dtype=object).astype(kind).reshape(array.shape)


def in_worlds(call: Call, arrays: list[Array | None]) -> list[Array] | None:
    """Compute a node's outputs from values; where inputs are symbolic, element by element from both sample worlds."""
    symbolic = any(array is not None and array.dtype == object for array in arrays)
    dtypes = [call.dtype(index) for index in range(len(arrays))]
    if any(
        dtype is None or dtype.kind == "O"
        for dtype, array in zip(dtypes, arrays, strict=True)
        if array is not None
    ):
        return None
    if not symbolic:
        return _compute(call, arrays)
    worlds: list[list[Array]] = []
    for world in (0, 1):
        feeds = [None if a is None else in_world(a, world, d) for a, d in zip(arrays, dtypes, strict=True)]
        if any(a is not None and f is None for a, f in zip(arrays, feeds, strict=True)):
            return None
        result = _compute(call, feeds)
        if result is None:
            return None
        worlds.append(result)
    key = call.sweep.symbols.token(
        (call.node.op, _attributes_text(call), *(_text(array) for array in arrays))
    )
    merged = []
    for index, (first, second) in enumerate(zip(*worlds, strict=True)):
        limit = VALUE_LIMIT if first.dtype.kind in "iub" else FLOAT_LIMIT
        if first.shape != second.shape or first.size > limit:
            raise Unknown
        merged.append(_merge(call, (key, index), first, second))
        if index < len(call.outputs):
            call.sweep.dtypes[call.outputs[index]] = first.dtype
    return merged


def _merge(call: Call, key: tuple[int, int], first: Array, second: Array) -> Array:
    table = call.sweep.symbols
    merged = np.empty(first.size, dtype=object)
    for position, (a, b) in enumerate(
        zip(first.reshape(-1).tolist(), second.reshape(-1).tolist(), strict=True)
    ):
        if isinstance(a, bool):
            merged[position] = table.make("computed", (*key, position), (int(a), int(b)), 0, 1)
        elif isinstance(a, int):
            merged[position] = table.make("computed", (*key, position), (a, b))
        else:
            merged[position] = table.real((*key, position), (float(a), float(b)))
    return merged.reshape(first.shape)


def _compute(call: Call, arrays: list[Array | None]) -> list[Array] | None:
    from onnx.reference import ReferenceEvaluator  # half a second to load, and rarely needed

    node = onnx.NodeProto(op_type=call.node.op)
    feeds: dict[str, Array] = {}
    for index, array in enumerate(arrays):
        node.input.append("" if array is None else f"i{index}")
        if array is not None:
            feeds[f"i{index}"] = array
    node.output.extend(f"o{index}" for index in range(len(call.outputs)))
    for name, value in bound_attributes(call).items():
        write_attribute(node.attribute.add(), name, value)
    graph = onnx.GraphProto(node=[node], name="one")
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in feeds)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        results = ReferenceEvaluator(graph, opsets={"": call.opset}).run(None, feeds)
    if any(not isinstance(result, (np.ndarray, np.generic)) for result in results):
        return None
    return [np.asarray(result) for result in results]


def _attributes_text(call: Call) -> str:
    return repr(sorted((name, repr(value)) for name, value in bound_attributes(call).items()))


def _text(array: Array | None) -> object:
    return None if array is None else (array.shape, tuple(array.reshape(-1).tolist()))
