"""Values of arithmetic operators, element by element, with Syms where sizes are symbolic."""

from collections.abc import Callable
from functools import reduce

import numpy as np

from graphrewrite.ir.shape_rules.call import Call, DType, value_rule
from graphrewrite.ir.sizes import (
    ceil_real,
    equal,
    floor_real,
    less,
    maximum,
    minimum,
    scaled,
    select,
    trunc_div,
)
from graphrewrite.ir.symbols import Dim, Real, Sym, exact_div, modulo
from graphrewrite.ir.values import Array, onnx_dtype_to_numpy

Element = object


def elementwise(function: Callable[..., Element], *arrays: Array) -> Array:
    """Apply a function of elements to broadcast arrays."""
    boxed = [np.asarray(array, dtype=object) if array.dtype != object else array for array in arrays]
    result = np.frompyfunc(function, len(boxed), 1)(*boxed)
    return result if isinstance(result, np.ndarray) else _scalar(result)


def _scalar(item: Element) -> Array:
    array = np.empty((), dtype=object)
    array[()] = item
    return array


def _given(arrays: list[Array | None]) -> list[Array]:
    return [array for array in arrays if array is not None]


def _symbolic(arrays: list[Array]) -> bool:
    return any(array.dtype == object for array in arrays)


def _is_float(call: Call, index: int = 0) -> bool:
    dtype = call.dtype(index)
    return dtype is not None and dtype.kind not in "iub"


def _whole(item: Element) -> Dim:
    """Return an element as an integer or Sym; a float with a fraction is neither."""
    if isinstance(item, (int, Sym)):
        return item
    if isinstance(item, float) and item.is_integer():
        return int(item)
    raise TypeError("no integer")


def _add(a: Element, b: Element) -> Element:
    return _whole(a) + _whole(b)


def _subtract(a: Element, b: Element) -> Element:
    return _whole(a) - _whole(b)


def _multiply(a: Element, b: Element) -> Element:
    if isinstance(a, float) and not a.is_integer():
        a, b = b, a
    if isinstance(b, float) and not b.is_integer():
        return scaled(_whole(a), b)
    return _whole(a) * _whole(b)


def _divide(a: Element, b: Element) -> Element:
    """Divide as floats do: exact quotients only, or by a power of two."""
    above, below = _whole(a), _whole(b)
    quotient = exact_div(above, below)
    if quotient is not None:
        return quotient
    if isinstance(below, int) and below and isinstance(above, Sym):
        return scaled(above, 1.0 / below) if below & (below - 1) == 0 else _no()
    return _no()


def _no() -> Element:
    raise TypeError("no exact quotient")


_INTEGERS: dict[str, Callable[[Element, Element], Element]] = {
    "Add": _add,
    "Sub": _subtract,
    "Mul": _multiply,
    "Min": lambda a, b: minimum(_whole(a), _whole(b)),
    "Max": lambda a, b: maximum(_whole(a), _whole(b)),
    "Sum": _add,
}
_PLAIN: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Min": np.minimum,
    "Max": np.maximum,
    "Sum": np.add,
}


@value_rule("Add", "Sub", "Mul", "Min", "Max", "Sum")
def arithmetic(call: Call, arrays: list[Array | None]) -> Array | None:
    """Fold the inputs from left to right."""
    if call.opset < 7:
        return None
    given = _given(arrays)
    if not _symbolic(given):
        with np.errstate(all="ignore"):
            return np.asarray(reduce(_PLAIN[call.node.op], given))
    return reduce(lambda a, b: elementwise(_INTEGERS[call.node.op], a, b), given)


@value_rule("Div")
def divide(call: Call, arrays: list[Array | None]) -> Array | None:
    """Integers are divided towards zero."""
    if call.opset < 7:
        return None
    a, b = _given(arrays)
    if not _symbolic([a, b]):
        if a.dtype.kind not in "iu":
            with np.errstate(all="ignore"):
                return np.asarray(np.divide(a, b), dtype=a.dtype)
        return elementwise(trunc_div, a, b).astype(a.dtype)
    return elementwise(_divide if _is_float(call) else trunc_div, a, b)


@value_rule("Mod")
def mod(call: Call, arrays: list[Array | None]) -> Array | None:
    """The sign follows the divisor, unless fmod is asked for."""
    a, b = _given(arrays)
    if not _symbolic([a, b]):
        if np.any(b == 0):
            return None
        return np.asarray(np.fmod(a, b) if call.integer("fmod", 0) else np.mod(a, b))
    if call.integer("fmod", 0) or _is_float(call):
        return None
    return elementwise(modulo, a, b)


@value_rule("Neg")
def negate(call: Call, arrays: list[Array | None]) -> Array:
    """Change the sign."""
    (a,) = _given(arrays)
    return np.negative(a) if a.dtype != object else elementwise(lambda x: -_whole(x), a)


@value_rule("Abs")
def absolute(call: Call, arrays: list[Array | None]) -> Array:
    """Drop the sign."""
    (a,) = _given(arrays)
    return np.abs(a) if a.dtype != object else elementwise(_absolute, a)


def _absolute(item: Element) -> Element:
    whole = _whole(item)
    return maximum(whole, -whole)


@value_rule("Floor", "Ceil", "Round")
def rounding(call: Call, arrays: list[Array | None]) -> Array:
    """Round down, up, or to the nearest even."""
    (a,) = _given(arrays)
    if a.dtype != object:
        return {"Floor": np.floor, "Ceil": np.ceil, "Round": np.rint}[call.node.op](a)
    return elementwise(
        {"Floor": floor_real, "Ceil": ceil_real, "Round": _whole_or_real}[call.node.op], _floats(a)
    )


def _floats(a: Array) -> Array:
    return elementwise(lambda x: x if isinstance(x, (Sym, Real)) else _whole(x), a)


def _whole_or_real(item: Element) -> Element:
    return _whole(item)


_FLOAT: dict[str, Callable[..., Array]] = {
    "Cos": np.cos,
    "Exp": np.exp,
    "Log": np.log,
    "Pow": np.power,
    "Reciprocal": np.reciprocal,
    "Sin": np.sin,
    "Sqrt": np.sqrt,
    "Tanh": np.tanh,
}


@value_rule(*_FLOAT)
def float_function(call: Call, arrays: list[Array | None]) -> Array | None:
    """Apply a float function to numbers; of sizes only the samples are known."""
    given = _given(arrays)
    if _symbolic(given):
        raise TypeError("no polynomial")
    if given[0].dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        return np.asarray(_FLOAT[call.node.op](*given), dtype=given[0].dtype)


@value_rule("Cast")
def cast(call: Call, arrays: list[Array | None]) -> Array | None:
    """Change the type; fractions are cut off."""
    (a,) = _given(arrays)
    target = call.attribute("to")
    if not isinstance(target, int):
        return None
    return converted(call, a, onnx_dtype_to_numpy(target))


@value_rule("CastLike")
def cast_like(call: Call, arrays: list[Array | None]) -> Array | None:
    """Change to the type of input 1."""
    dtype = call.dtype(1)
    return None if arrays[0] is None or dtype is None else converted(call, arrays[0], dtype)


def converted(call: Call, a: Array, dtype: DType) -> Array | None:
    """Return a value in another element type, None when that cannot be told."""
    call.put(0, None, dtype)
    if a.dtype != object:
        if dtype.kind in "OUS" or a.dtype.kind in "OUS":
            return None
        if dtype.kind in "iu" and a.dtype.kind == "f" and not np.all(np.isfinite(a)):
            return None
        if a.dtype.kind not in "iubf" or dtype.kind not in "iubf":
            return None  # small float formats saturate: leave them to the reference
        with np.errstate(all="ignore"):
            return a.astype(dtype)
    if dtype.kind == "b":
        return elementwise(lambda x: 1 - equal(_whole(x), 0), a)
    if dtype.kind in "iu":
        return elementwise(_truncated, a)
    return elementwise(lambda x: x if isinstance(x, (Sym, Real)) else float(x), a)


def _truncated(item: Element) -> Element:
    if isinstance(item, Real):
        if item.base is not None and item.base.low is not None and item.base.low * item.factor >= 0:
            return floor_real(item)
        raise TypeError("sign unknown")
    return item if isinstance(item, Sym) else int(item)  # type: ignore[call-overload]


_COMPARE: dict[str, Callable[[Element, Element], Dim]] = {
    "Equal": lambda a, b: equal(_whole(a), _whole(b)),
    "Less": lambda a, b: less(_whole(a), _whole(b)),
    "Greater": lambda a, b: less(_whole(b), _whole(a)),
    "LessOrEqual": lambda a, b: 1 - less(_whole(b), _whole(a)),
    "GreaterOrEqual": lambda a, b: 1 - less(_whole(a), _whole(b)),
    "And": lambda a, b: _whole(a) * _whole(b),
    "Or": lambda a, b: _whole(a) + _whole(b) - _whole(a) * _whole(b),
    "Xor": lambda a, b: _whole(a) + _whole(b) - 2 * (_whole(a) * _whole(b)),
}
_COMPARE_PLAIN: dict[str, Callable[..., Array]] = {
    "Equal": np.equal,
    "Less": np.less,
    "Greater": np.greater,
    "LessOrEqual": np.less_equal,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}


@value_rule(*_COMPARE)
def compare(call: Call, arrays: list[Array | None]) -> Array | None:
    """Compare sizes; what is not certain becomes a Sym that is 1 or 0."""
    if call.opset < 7:
        return None
    a, b = _given(arrays)
    if not _symbolic([a, b]):
        return np.asarray(_COMPARE_PLAIN[call.node.op](a, b))
    return elementwise(_COMPARE[call.node.op], a, b)


@value_rule("Not")
def negation(call: Call, arrays: list[Array | None]) -> Array:
    """Turn 1 into 0 and back."""
    (a,) = _given(arrays)
    return np.logical_not(a) if a.dtype != object else elementwise(lambda x: 1 - _whole(x), a)


@value_rule("Where")
def where(call: Call, arrays: list[Array | None]) -> Array:
    """Choose element by element."""
    call.put(0, None, call.dtype(1))
    condition, a, b = _given(arrays)
    if not _symbolic([condition, a, b]):
        return np.where(condition, a, b)
    return elementwise(_choose, condition, a, b)


def _choose(condition: Element, a: Element, b: Element) -> Element:
    flag = _whole(condition)
    if isinstance(flag, int):
        return a if flag else b
    return select(flag, _whole(a), _whole(b))


@value_rule("Identity")
def identity(call: Call, arrays: list[Array | None]) -> Array:
    """Hand on."""
    (a,) = _given(arrays)
    return a


@value_rule("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin")
def reduction(call: Call, arrays: list[Array | None]) -> Array | None:
    """Reduce symbolic elements; plain ones are left to the reference."""
    a = arrays[0]
    if a is None or a.dtype != object or a.ndim != 1:
        return None
    functions: dict[str, Callable[[Element, Element], Element]] = {
        "ReduceSum": _add,
        "ReduceProd": _multiply,
        "ReduceMax": _INTEGERS["Max"],
        "ReduceMin": _INTEGERS["Min"],
    }
    if call.integer("noop_with_empty_axes", 0) or a.size == 0:
        return None
    total = _scalar(reduce(functions[call.node.op], a.tolist()))
    return total.reshape(1) if call.integer("keepdims", 1) else total


@value_rule("CumSum")
def cumulative_sum(call: Call, arrays: list[Array | None]) -> Array | None:
    """Running sums of symbolic elements; plain ones are left to the reference."""
    a = arrays[0]
    if a is None or a.dtype != object or call.integer("exclusive", 0) or call.integer("reverse", 0):
        return None
    axis = call.numbers(1)
    return None if axis is None else np.cumsum(a, axis=axis[0])
