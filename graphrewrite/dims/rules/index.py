"""Operators that pick positions: slices, gathers, scatters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from graphrewrite.dims.axes import Axis, of_rows, rigid
from graphrewrite.dims.counting import counts_up, whole_axes
from graphrewrite.dims.parts import pick_part
from graphrewrite.dims.places import looked_up, pin_named
from graphrewrite.dims.sweep import Step, is_constant, rule

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut


@rule("Slice")
def slice_(s: Step) -> None:
    """A window, any step; where an axis is cut the bounds follow."""
    x = s.axes(0)
    if s.analysis.tied is not None and (part := _only_position(s, x)) is not None:
        found = pick_part(s, x, part[0], [part[1]], lambda: _slice(s, s.forced(x)))
        if found is not None:
            s.ignore(*range(1, len(s.node.inputs)))
            s.out(found[0])
            return
    _slice(s, s.forced(x))


def _slice(s: Step, x: list[Axis]) -> None:
    old = s.opset < 10
    starts = s.integers("starts") if old else s.numbers(1)
    ends = s.integers("ends") if old else s.numbers(2)
    axes = s.integers("axes") if old else (s.numbers(3) if s.has(3) else None)
    steps = None if old else (s.numbers(4) if s.has(4) else None)
    if not old and ((s.has(3) and axes is None) or (s.has(4) and steps is None)):
        s.refuse("the sliced axes depend on the input")
        return
    count = len(starts) if starts is not None else s.sizes(1)[0][0]
    axes = [a % len(x) for a in (axes or range(count))]
    later = (
        [] if old else [(s.numbers(slot, 1) or [0] * count) for slot in (1, 2)]
    )  # what follows the input's size
    out, picks = list(x), {}
    for position, axis in enumerate(axes):
        sizes = s.out_sizes()[axis]
        if sizes == x[axis].sizes and (steps is None or steps[position] == 1):
            continue
        if x[axis].is_rigid:
            out[axis] = rigid(sizes, x[axis].cause)
            continue
        moves = (
            starts
            and ends
            and any(now[position] != then[position] for now, then in zip((starts, ends), later, strict=False))
        )
        if starts is None or ends is None or moves or not x[axis].is_static:
            s.pin(x[axis], "the bounds of the slice depend on the input")
            out[axis] = rigid(sizes, f"sliced by {s.why}")
            continue
        step = steps[position] if steps else 1
        picked = np.arange(x[axis].sizes[0])[
            slice(*_bounds(starts[position], ends[position], step, x[axis].sizes[0]))
        ]
        out[axis] = s.window(of_rows(s.rows(x[axis])[picked])) if len(picked) else rigid(0)
        picks[position] = (axis, x[axis], picked)
    if picks:
        s.restate([axis for _, axis, _ in picks.values()], lambda cut: cut.set_slice(s.index, picks))
    s.out(out)


def _only_position(s: Step, x: list[Axis]) -> tuple[int, int] | None:
    """Return the axis of which a slice takes one position, and which; None for any other slice."""
    short = [i for i, (axis, pair) in enumerate(zip(x, s.out_sizes(), strict=True)) if axis.sizes != pair]
    starts = s.integers("starts") if s.opset < 10 else s.numbers(1)
    if len(short) != 1 or s.out_sizes()[short[0]] != (1, 1) or starts is None or len(starts) != 1:
        return None
    return (short[0], starts[0]) if 0 <= starts[0] < x[short[0]].sizes[0] else None


def _bounds(start: int, end: int, step: int, length: int) -> tuple[int, int | None, int]:
    start = (
        max(start + length, 0 if step > 0 else -1)
        if start < 0
        else min(start, length if step > 0 else length - 1)
    )
    if end < 0:
        end = end + length
        return start, (None if end < 0 and step < 0 else max(end, 0)), step
    return start, min(end, length), step


@rule("Gather")
def gather(s: Step) -> None:
    """Picks positions by number; numbers that come from the input pin the axis (a vocabulary)."""
    if s.rank(0) == 1 and counts_up(s.analysis.info, s.node.inputs[1], s.sizes(0)[0]):
        out = s.reshaped(s.axes(0), s.out_sizes())
        s.ignore(1)
        s.restate(out, lambda cut: cut.as_reshape(s.index, out))
        s.out(out)
        return
    x = s.axes(0)
    axis, index, shape = s.integer("axis", 0) % len(x), s.numbers(1), s.sizes(1)
    if index is not None and not shape and x[axis].is_static:
        part = index[0] % x[axis].sizes[0]
        found = pick_part(s, x, axis, [part], lambda: _gather(s, s.forced(x), axis))
        if found is not None:
            s.ignore(1)
            s.out([each for number, each in enumerate(found[0]) if number != axis])
            return
    _gather(s, s.forced(x), axis)


def _gather(s: Step, x: list[Axis], axis: int) -> None:
    index, shape, table = s.numbers(1), s.sizes(1), x[axis]
    if looked_up(s, 1, table) or table.is_rigid:
        middle = _indices(s)
    elif index is None or not table.is_static or any(a != b for a, b in shape):
        s.pin(table, "positions are looked up by values of the input")
        middle = _indices(s)
    elif _only_asks(s):
        middle = [rigid(pair, "picked by number") for pair in shape]
        count = len(index)
        s.restate([table], lambda cut: cut.set_first(s.index, 1, count))
    else:
        picked = np.asarray(index, dtype=np.int64) % table.sizes[0]
        if len(shape) == 1:
            middle = [s.window(of_rows(s.rows(table)[picked]))] if len(picked) else [rigid(0)]
        else:
            s.pin_positions(table, [int(p) for p in np.unique(picked)], "a position picked by number")
            middle = [rigid(pair, "picked by number") for pair in shape]
        s.restate([table], lambda cut: cut.set_indices(s.index, 1, table, picked))
    s.out([*x[:axis], *middle, *x[axis + 1 :]])


def _only_asks(s: Step) -> bool:
    """Whether the result is read for its shape alone: then any position will do."""
    out = s.node.outputs[0]
    readers = [node for node in out.outputs if node.op != "Shape" or node.domain]
    return not readers and id(out) not in s.analysis.returned


def _indices(s: Step) -> list[Axis]:
    """Return the axes of an index operand; its values are positions of a whole axis, so it may itself be cut."""
    if is_constant(s.node.inputs[1]):
        return [rigid(pair, "an index") for pair in s.sizes(1)]
    return s.forced(s.axes(1))


@rule("GatherElements")
def gather_elements(s: Step) -> None:
    """Picks along one axis; the others pass when the index has their length."""
    x, index = s.forced(s.axes(0)), s.forced(s.axes(1))
    axis = s.integer("axis", 0) % len(x)
    if not looked_up(s, 1, x[axis]):
        s.pin(x[axis], "positions are looked up by number")
    out = []
    for i, (a, b) in enumerate(zip(x, index, strict=True)):
        if i != axis and a.sizes == b.sizes:
            out.append(_indexed_along(s, i, a, b))
            continue
        if i != axis:
            s.pin(a, "the index is shorter than the data")
        out.append(b)
    s.out(out)


def _indexed_along(s: Step, number: int, data: Axis, index: Axis) -> Axis:
    """Tie an axis that data and index (slot 1) share; an index that could not shrink by itself loses what data does."""
    if index.is_rigid and not data.is_rigid and data.is_static:
        s.restate([data], lambda cut: cut.take(s.index, 1, number, data))
        return data
    s.tie(data, index)
    return index


@rule("GatherND")
def gather_nd(s: Step) -> None:
    """Trailing axes pass; indexed and batch axes stay whole, except where known numbers pick from the first axis."""
    x = s.forced(s.axes(0))
    known = s.numbers(1)
    if known and s.sizes(1)[1:] == [(1, 1)] and not s.integer("batch_dims", 0) and x[0].is_static:
        picked = np.asarray(known, dtype=np.int64) % x[0].sizes[0]
        s.restate([x[0]], lambda cut: cut.set_indices(s.index, 1, x[0], picked, column=True))
        first = rigid(len(picked)) if x[0].is_rigid else s.window(of_rows(s.rows(x[0])[picked]))
        s.ignore(1)
        s.out([first, *x[1:]])
        return
    index = s.forced(s.axes(1)) if not is_constant(s.node.inputs[1]) else [rigid(p) for p in s.sizes(1)]
    depth = s.integer("batch_dims", 0) + s.sizes(1)[-1][0]
    if depth != 1 or not looked_up(s, 1, x[0]):
        pin_named(s, "its numbers are parts of a place")
        for axis in x[:depth]:
            s.pin(axis, "positions are looked up by number")
    for axis in index:
        s.pin(axis, "an index")
    sizes = s.out_sizes()
    tail = x[depth:]
    s.out([*(rigid(pair, "picked by number") for pair in sizes[: len(sizes) - len(tail)]), *tail])


@rule("ScatterND")
def scatter_nd(s: Step) -> None:
    """Trailing axes follow the updates; so do rows of the first axis, and axes that a grid of places covers."""
    x, updates = s.forced(s.axes(0)), s.forced(s.axes(2))
    depth = s.sizes(1)[-1][0]
    index = s.numbers(1)
    tail = len(x) - depth
    for i in range(1, tail + 1):
        s.tie(x[-i], updates[-i])
    if depth == 1 and index is not None and len(s.sizes(1)) == 2 and not x[0].is_rigid:
        rows = np.asarray(index, dtype=np.int64) % x[0].sizes[0]
        s.tie(updates[0], s.window(of_rows(s.rows(x[0])[rows])))
        s.restate([x[0]], lambda cut: cut.set_indices(s.index, 1, x[0], rows, column=True))
        s.out(x)
        return
    grid = [] if is_constant(s.node.inputs[1]) else s.axes(1)
    covered = whole_axes(s.analysis.info, s.node.inputs[1], [axis.sizes for axis in x[:depth]])
    covered = {n for n in covered if x[n].is_static}
    written = updates[: len(updates) - tail]
    for number in covered:
        s.tie(x[number], written[number])
        s.restate([x[number]], partial(_take_first, s.index, number, x[number]))
    for axis in grid:
        s.pin(axis, "an index")
    for axes in (x[:depth], written):
        for number, axis in enumerate(axes):
            if number not in covered:
                s.pin(axis, "positions are written by number")
    s.out(x)


def _take_first(node: int, number: int, axis: Axis, cut: Cut) -> None:
    """Let a grid of places (input 1) end after as many as an axis keeps: there they count from zero again."""
    cut.take_first(node, 1, number, axis)


@rule("ScatterElements", "Scatter")
def scatter_elements(s: Step) -> None:
    """Writes along one axis; the others pass when index, updates and data have the same length there."""
    x, index, updates = (s.forced(s.axes(slot)) for slot in range(3))
    axis = s.integer("axis", 0) % len(x)
    for i, (a, b, c) in enumerate(zip(x, index, updates, strict=True)):
        if i != axis and a.sizes == b.sizes:
            _indexed_along(s, i, a, b)
            s.tie(a, c)
        elif i != axis:
            pin_named(s, "its numbers write to a part of a tensor")
            for each in (a, b, c):
                s.pin(each, "positions are written by number")
        else:
            if not looked_up(s, 1, a):
                s.pin(a, "positions are written by number")
            for each in (b, c):
                s.pin(each, "positions are written by number")
    s.out(x)
