"""Operators that pick elements: slice, gather, scatter, and what selects by contents."""

from graphrewrite.ir.shape_rules.call import INT64, Call, Unknown, axis_of, shape_rule
from graphrewrite.ir.sizes import ceil_div, less, maximum, minimum, positive_part, select
from graphrewrite.ir.symbols import Dim, Sym

# Exporters write "to the end" as the largest integer of some width.
_HUGE = 1 << 30


def slice_length(size: Dim, start: Dim, end: Dim, step: int) -> Dim:
    """Return how many elements `start:end:step` picks from an axis of `size` (ONNX clamps like numpy)."""
    if step > 0:
        first, last = _clamped(size, start, 0, size), _clamped(size, end, 0, size)
        if last is first:
            return 0
        return positive_part(ceil_div(last - first, step))
    first, last = _clamped(size, start, 0, size - 1), _clamped(size, end, -1, size - 1)
    return positive_part(ceil_div(first - last, -step))


def _clamped(size: Dim, place: Dim, low: int, high: Dim) -> Dim:
    """Return a start or end as a place between `low` and `high`."""
    if isinstance(place, int):
        if place >= _HUGE:
            return high
        if place <= -_HUGE:
            return low
        if place < 0:
            place = place + size
    elif place.low is None or place.low < 0:
        wrapped = place + size
        place = wrapped if _certainly_negative(place) else select(less(place, 0), wrapped, place)
    return maximum(minimum(place, high), low)


def _certainly_negative(place: Sym) -> bool:
    return place.high is not None and place.high < 0


@shape_rule("Slice")
def slice_(call: Call) -> None:
    """Attributes below opset 10, inputs from then on."""
    x = call.known(0)
    out = list(x)
    if call.opset < 10:
        starts: list[Dim] | None = list(call.integers("starts") or [])
        ends: list[Dim] | None = list(call.integers("ends") or [])
        axes, steps = call.integers("axes"), None
    else:
        starts, ends = call.ints(1), call.ints(2)
        axes = call.numbers(3) if call.has(3) else None
        steps = call.numbers(4) if call.has(4) else None
        if call.has(3) and axes is None:
            raise Unknown
        if call.has(4) and steps is None:
            for axis in axes if axes is not None else range(len(x)):
                out[axis_of(axis, len(x))] = call.unknown()
            call.put(0, out)
            return
    count = _length(call, starts)
    if axes is None:
        axes = list(range(count if count is not None else len(x)))
    for index, axis in enumerate(axes):
        place = axis_of(axis, len(x))
        if starts is None or ends is None:
            out[place] = call.unknown()
        else:
            out[place] = slice_length(out[place], starts[index], ends[index], steps[index] if steps else 1)
    call.put(0, out)


def _length(call: Call, starts: list[Dim] | None) -> int | None:
    if starts is not None:
        return len(starts)
    shape = call.shape(1)
    return shape[0] if shape is not None and len(shape) == 1 and isinstance(shape[0], int) else None


@shape_rule("Gather")
def gather(call: Call) -> None:
    """The gathered axis is replaced by the axes of the indices."""
    x, indices = call.known(0), call.known(1)
    axis = axis_of(call.integer("axis", 0), len(x))
    size = x[axis]
    if isinstance(size, Sym):
        picks = call.numbers(1) or [0]
        reach = max(max(picks) + 1, -min(picks))
        if any(number is not None and number < reach for number in size.sample):
            call.sweep.symbols.too_small = True
    call.put(0, (*x[:axis], *indices, *x[axis + 1 :]))


@shape_rule("GatherElements")
def gather_elements(call: Call) -> None:
    """The shape of the indices."""
    call.put(0, call.shape(1))


@shape_rule("GatherND")
def gather_nd(call: Call) -> None:
    """Leading axes of the indices, then what is left of the data."""
    x, indices = call.known(0), call.known(1)
    batch = call.integer("batch_dims", 0)
    depth = indices[-1]
    if isinstance(depth, Sym):
        raise Unknown
    call.put(0, (*indices[:-1], *x[batch + depth :]))


@shape_rule("Scatter", "ScatterElements", "ScatterND", "TensorScatter")
def scatter(call: Call) -> None:
    """The shape of the data."""
    call.put(0, call.shape(0))


@shape_rule("Compress")
def compress(call: Call) -> None:
    """As many elements as conditions hold."""
    x = call.shape(0)
    kept: Dim = call.unknown()
    condition = call.numbers(1)
    if condition is not None:
        kept = sum(condition)
    if call.attribute("axis") is None:
        call.put(0, (kept,))
    elif x is not None:
        axis = axis_of(call.integer("axis", 0), len(x))
        call.put(0, (*x[:axis], kept, *x[axis + 1 :]))


@shape_rule("NonZero", dtype=INT64)
def non_zero(call: Call) -> None:
    """[rank, how many are not zero]; a scalar counts as one axis."""
    x = call.known(0)
    call.put(0, (len(x), call.unknown()))


@shape_rule("Unique")
def unique(call: Call) -> None:
    """As many values as differ; indices, inverse and counts are vectors."""
    x = call.shape(0)
    count = call.unknown()
    if call.attribute("axis") is None:
        call.put(0, (count,))
    elif x is not None:
        axis = axis_of(call.integer("axis", 0), len(x))
        call.put(0, (*x[:axis], count, *x[axis + 1 :]))
    call.put(1, (count,), INT64)
    call.put(3, (count,), INT64)
    inverse: Dim | None = None
    if x is not None:
        inverse = 1
        for dim in x if call.attribute("axis") is None else (x[axis_of(call.integer("axis", 0), len(x))],):
            inverse = inverse * dim
    call.put(2, None if inverse is None else (inverse,), INT64)


@shape_rule("TopK")
def top_k(call: Call) -> None:
    """The k largest along an axis, and where they are; k is an attribute below opset 10."""
    call.put(1, None, INT64)
    x = call.known(0)
    axis = axis_of(call.integer("axis", -1), len(x))
    k: Dim
    if call.opset < 10:
        k = call.integer("k", 1)
    else:
        given = call.ints(1)
        k = given[0] if given else call.unknown()
    shape = (*x[:axis], k, *x[axis + 1 :])
    call.put(0, shape)
    call.put(1, shape)


@shape_rule("NonMaxSuppression", dtype=INT64)
def non_max_suppression(call: Call) -> None:
    """[how many boxes are kept, 3]."""
    limit = call.numbers(2) if call.has(2) else [0]
    call.put(0, (0 if limit is not None and limit[0] == 0 else call.unknown(), 3))


@shape_rule("OneHot")
def one_hot(call: Call) -> None:
    """An axis of length depth is inserted."""
    call.sweep.dtypes.pop(call.outputs[0], None)
    call.put(0, None, call.dtype(2))
    indices, depth = call.known(0), call.ints(1)
    size = depth[0] if depth else call.unknown()
    axis = axis_of(call.integer("axis", -1), len(indices) + 1)
    call.put(0, (*indices[:axis], size, *indices[axis:]))
