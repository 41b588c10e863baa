"""Reductions along axes, and the sizes themselves as tensors."""

import numpy as np

from graphrewrite.ir.shape_rules.call import INT64, Call, Shape, Unknown, axis_of, shape_rule
from graphrewrite.ir.sizes import product
from graphrewrite.ir.symbols import Dim, Sym

_AXES_INPUT_SINCE = {"ReduceSum": 13}


def reduced(shape: Shape, axes: list[int] | None, keep: bool) -> list[Dim]:
    """Return a shape with axes (all when None) reduced."""
    gone = set(range(len(shape))) if axes is None else {axis_of(axis, len(shape)) for axis in axes}
    if keep:
        return [1 if axis in gone else dim for axis, dim in enumerate(shape)]
    return [dim for axis, dim in enumerate(shape) if axis not in gone]


def reduce_axes(call: Call, rank: int) -> list[int] | None:
    """Return the axes of a reduction from attribute or input; None means all.

    Raises:
        Unknown: they are given, but not as numbers.
    """
    since = _AXES_INPUT_SINCE.get(call.node.op, 18)
    axes = call.integers("axes")
    if call.opset >= since and call.has(1):
        axes = call.numbers(1)
        if axes is None:
            raise Unknown
    if axes is not None and not axes or axes is None:
        return [] if call.integer("noop_with_empty_axes", 0) and call.opset >= since else None
    return axes


@shape_rule(
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
)
def reduce(call: Call) -> None:
    """Axes are an attribute, later an input."""
    x = call.known(0)
    keep = bool(call.integer("keepdims", 1))
    try:
        axes = reduce_axes(call, len(x))
    except Unknown:
        if keep:
            call.put(0, [1 if isinstance(dim, int) and dim == 1 else call.unknown() for dim in x])
        raise
    call.put(0, reduced(x, axes, keep))


@shape_rule("ArgMax", "ArgMin", dtype=INT64)
def arg_extremum(call: Call) -> None:
    """One axis becomes 1 or goes."""
    x = call.known(0)
    call.put(0, reduced(x, [call.integer("axis", 0)], bool(call.integer("keepdims", 1))))


@shape_rule("Shape", dtype=INT64)
def shape_(call: Call) -> None:
    """The sizes as a vector: where values begin."""
    x = call.known(0)
    rank = len(x)
    start, end = call.integer("start", 0), call.integer("end", rank)
    start = min(max(start + rank if start < 0 else start, 0), rank)
    end = min(max(end + rank if end < 0 else end, 0), rank)
    part = x[start : max(start, end)]
    call.put(0, (len(part),), INT64, vector(part))


@shape_rule("Size", dtype=INT64)
def size(call: Call) -> None:
    """The number of elements as a scalar."""
    call.put(0, (), INT64, vector((product(call.known(0)),)).reshape(()))


def vector(dims: Shape | list[Dim]) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Return sizes as a value: plain integers where all are, else an object array."""
    if any(isinstance(dim, Sym) for dim in dims):
        array = np.empty(len(dims), dtype=object)
        array[:] = dims
        return array
    return np.array(dims, dtype=np.int64)
