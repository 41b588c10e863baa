"""Values of operators that move elements: the same code for plain arrays and for arrays of Syms."""

import numpy as np

from graphrewrite.ir.shape_rules.call import VALUE_LIMIT, Call, Unknown, axis_of, value_rule
from graphrewrite.ir.shape_rules.layout import reshape_target, unsqueezed
from graphrewrite.ir.symbols import Dim, Real, Sym
from graphrewrite.ir.values import Array


def _ints(array: Array | None) -> list[int] | None:
    """Return a plain integer array as a list, None when it is missing or symbolic."""
    if array is None or array.dtype == object:
        return None
    return [int(item) for item in array.reshape(-1).tolist()]


def _axes(call: Call, arrays: list[Array | None]) -> list[int] | None:
    if len(arrays) > 1 and arrays[1] is not None:
        return _ints(arrays[1])
    return call.integers("axes")


@value_rule("Reshape")
def reshape(call: Call, arrays: list[Array | None]) -> Array | None:
    """Reshape a value of known shape."""
    data = arrays[0]
    target = call.ints(1) if len(arrays) > 1 else list[Dim](call.integers("shape") or [])
    if data is None or target is None:
        return None
    shape = reshape_target(data.shape, target, bool(call.integer("allowzero", 0)), None)
    if any(isinstance(dim, Sym) for dim in shape):
        return None
    return data.reshape(shape)  # type: ignore[arg-type]


@value_rule("Squeeze")
def squeeze(call: Call, arrays: list[Array | None]) -> Array | None:
    """Drop axes of size 1."""
    data = arrays[0]
    axes = _axes(call, arrays)
    if data is None:
        return None
    if axes is None:
        return None if len(arrays) > 1 and arrays[1] is not None else data.squeeze()
    return data.squeeze(tuple(axis_of(axis, data.ndim) for axis in axes))


@value_rule("Unsqueeze")
def unsqueeze(call: Call, arrays: list[Array | None]) -> Array | None:
    """Insert axes of size 1."""
    data, axes = arrays[0], _axes(call, arrays)
    return None if data is None or axes is None else data.reshape(unsqueezed(data.shape, axes))  # type: ignore[arg-type]


@value_rule("Flatten")
def flatten(call: Call, arrays: list[Array | None]) -> Array | None:
    """Two axes."""
    data = arrays[0]
    if data is None:
        return None
    axis = call.integer("axis", 1)
    axis = axis + data.ndim if axis < 0 else axis
    return data.reshape(int(np.prod(data.shape[:axis], dtype=np.int64)), -1)


@value_rule("Transpose")
def transpose(call: Call, arrays: list[Array | None]) -> Array | None:
    """Permute axes."""
    data = arrays[0]
    return None if data is None else data.transpose(call.integers("perm"))


@value_rule("Concat")
def concat(call: Call, arrays: list[Array | None]) -> Array | None:
    """Put values one after the other."""
    parts = [array for array in arrays if array is not None]
    return np.concatenate(parts, axis=call.integer("axis", 1))


@value_rule("Split")
def split(call: Call, arrays: list[Array | None]) -> list[Array] | None:
    """Cut into windows."""
    data = arrays[0]
    if data is None:
        return None
    axis = axis_of(call.integer("axis", 0), data.ndim)
    sizes = call.integers("split") or (_ints(arrays[1]) if len(arrays) > 1 else None)
    if sizes is None:
        if len(arrays) > 1 and arrays[1] is not None:
            return None
        parts = call.integer("num_outputs", len(call.outputs))
        part = -(-data.shape[axis] // parts)
        sizes = [part] * (parts - 1) + [data.shape[axis] - part * (parts - 1)]
    return np.split(data, np.cumsum(sizes)[:-1].tolist(), axis=axis)


@value_rule("Slice")
def slice_(call: Call, arrays: list[Array | None]) -> Array | None:
    """Pick ranges with plain bounds."""
    data = arrays[0]
    if data is None:
        return None
    if call.opset < 10:
        starts, ends, axes = call.integers("starts"), call.integers("ends"), call.integers("axes")
        steps: list[int] | None = None
    else:
        if any(array is not None and array.dtype == object for array in arrays[1:]):
            return None
        starts, ends = _ints(arrays[1]), _ints(arrays[2])
        axes = _ints(arrays[3]) if len(arrays) > 3 else None
        steps = _ints(arrays[4]) if len(arrays) > 4 else None
    if starts is None or ends is None:
        return None
    picks = [slice(None)] * data.ndim
    for index, axis in enumerate(axes if axes is not None else range(len(starts))):
        step = steps[index] if steps else 1
        end: int | None = ends[index]
        # A negative step that runs past the front has no end that numpy could be told.
        if step < 0 and ends[index] < -data.shape[axis]:
            end = None
        picks[axis] = slice(starts[index], end, step)
    return data[tuple(picks)]


@value_rule("Gather")
def gather(call: Call, arrays: list[Array | None]) -> Array | None:
    """Pick positions of one axis."""
    data, indices = arrays[0], arrays[1]
    if data is None or indices is None or indices.dtype == object:
        return None
    if indices.size * (data.size // max(data.shape[call.integer("axis", 0)], 1)) > VALUE_LIMIT:
        raise Unknown
    return _boxed(np.take(data, indices.astype(np.int64), axis=call.integer("axis", 0)))


@value_rule("GatherElements")
def gather_elements(call: Call, arrays: list[Array | None]) -> Array | None:
    """Pick one position per element."""
    data, indices = arrays[0], arrays[1]
    if data is None or indices is None or indices.dtype == object:
        return None
    axis = axis_of(call.integer("axis", 0), data.ndim)
    where = indices.astype(np.int64)
    return np.take_along_axis(data, np.where(where < 0, where + data.shape[axis], where), axis)


@value_rule("Expand")
def expand(call: Call, arrays: list[Array | None]) -> Array | None:
    """Broadcast to a plain shape."""
    data, target = arrays[0], _ints(arrays[1])
    if data is None or target is None:
        return None
    shape = np.broadcast_shapes(data.shape, tuple(target))
    if int(np.prod(shape, dtype=np.int64)) > VALUE_LIMIT:
        raise Unknown
    return np.array(np.broadcast_to(data, shape))


@value_rule("Tile")
def tile(call: Call, arrays: list[Array | None]) -> Array | None:
    """Repeat along every axis."""
    data, repeats = arrays[0], _ints(arrays[1])
    if data is None or repeats is None or data.size * int(np.prod(repeats, dtype=np.int64)) > VALUE_LIMIT:
        return None
    return np.tile(data, repeats)


@value_rule("ScatterND")
def scatter_nd(call: Call, arrays: list[Array | None]) -> Array | None:
    """Replace rows at plain indices."""
    data, indices, updates = arrays
    if data is None or indices is None or updates is None or indices.dtype == object:
        return None
    if call.text("reduction", "none") != "none":
        return None
    symbolic = data.dtype == object or updates.dtype == object
    result = data.astype(object) if symbolic else np.array(data)
    rows = indices.reshape(-1, indices.shape[-1]).astype(np.int64)
    flat = updates.reshape(len(rows), *updates.shape[indices.ndim - 1 :])
    for row, item in zip(rows.tolist(), flat, strict=True):
        result[tuple(row)] = item
    return result


@value_rule("Range")
def range_(call: Call, arrays: list[Array | None]) -> Array | None:
    """Count from plain start to plain limit; a symbolic range has no length to be followed."""
    start, limit, step = arrays
    if start is None or limit is None or step is None:
        return None
    ends = [array.reshape(-1).tolist()[0] for array in (start, limit, step)]
    if any(isinstance(end, (Sym, Real)) for end in ends):
        raise TypeError("symbolic length")
    if abs((ends[1] - ends[0]) / ends[2]) > VALUE_LIMIT:
        raise Unknown
    return np.arange(*ends, dtype=start.dtype)


def _boxed(item: object) -> Array:
    if not isinstance(item, (Sym, Real)):
        return np.asarray(item)
    array = np.empty((), dtype=object)
    array[()] = item
    return array
