"""Lists of tensors, and optionals, which are lists of at most one.

While a list's length is known each item has its own axes. A list that a loop fills has as many items as there are
rounds: all of them share their axes, and what a later round puts in is tied to what was there. Lists mix nothing.
"""

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from graphrewrite.dims.axes import ONE, UNKNOWN, Axis, Pair, of_rows, rigid
from graphrewrite.dims.record import Items, pairs_of
from graphrewrite.dims.rules.shape import join
from graphrewrite.dims.sweep import Step, rule


def items_of(s: Step, slot: int) -> Items | None:
    """Return what a list holds; where that is not known the node is refused."""
    items = s.analysis.sequences.get(s.node.inputs[slot].name)
    if items is None:
        s.refuse("a list that is not followed")
        return None
    s.ignore(slot)
    return items


def held(s: Step, name: str) -> tuple[list[list[Pair]], bool] | None:
    """Return the sizes of what a list holds as inference has them, and whether these are all."""
    known = s.analysis.info.elements(name)
    if known is None or any(shape is None for shape in known[0]):
        return None
    return [pairs_of(shape) for shape in known[0] if shape is not None], known[1]


def put(s: Step, items: Items, output: int = 0) -> None:
    """Set what an output holds."""
    s.analysis.sequences[s.node.outputs[output].name] = items


def shared(s: Step, items: Items) -> Items:
    """Tie all items of a list to one another, for whoever takes one and cannot say which."""
    if not items.axes:
        return Items((), counted=False)
    first, *others = items.axes
    for other in others:
        first = one_of_two(s, first, other)
    return Items((first,), counted=False)


def one_of_two(s: Step, first: Sequence[Axis], second: Sequence[Axis]) -> list[Axis]:
    """Return the axes of a tensor that may be either of two."""
    why = "its length differs from item to item"
    out = []
    for a, b in zip_longest(first, second):
        if a is not None and b is not None and a.sizes == b.sizes != UNKNOWN:
            s.tie(a, b)
            out.append(b if a.is_rigid else a)
            continue
        for axis in (a, b):
            if axis is not None:
                s.pin(axis, why)
        out.append(rigid(UNKNOWN, why))
    return out


def fitted(s: Step, axes: Sequence[Axis], sizes: Sequence[Pair]) -> list[Axis]:
    """Return axes of these sizes; what has another size, or an unknown one, stays whole."""
    out = []
    for axis, pair in zip(axes, sizes, strict=True):
        if axis.sizes != pair or pair == UNKNOWN:
            s.pin(axis, "its length differs from item to item")
            axis = rigid(pair, f"an item of {s.why}")
        out.append(axis)
    return out


def stays_whole(s: Step, items: Items | None, why: str) -> None:
    """Pin everything a list holds."""
    for axes in () if items is None else items.axes:
        for axis in axes:
            s.pin(axis, why)


@rule("SequenceEmpty")
def empty(s: Step) -> None:
    """No items yet."""
    put(s, Items(()))


@rule("SequenceConstruct")
def construct(s: Step) -> None:
    """A list of tensors, each with its own axes."""
    put(s, Items(tuple(s.forced(s.axes(slot)) for slot in range(len(s.node.inputs)))))


@rule("SequenceInsert")
def insert(s: Step) -> None:
    """One item more."""
    items = items_of(s, 0)
    if items is None:
        return
    s.ignore(2)
    new, count = s.forced(s.axes(1)), len(items.axes)
    place = s.numbers(2) if s.has(2) else [count]
    if not items.counted or (place is None and count):
        put(s, shared(s, Items((*items.axes, new))))
        return
    at = 0 if place is None else place[0] + count if place[0] < 0 else place[0]
    put(s, Items((*items.axes[:at], new, *items.axes[at:])))


@rule("SequenceErase")
def erase(s: Step) -> None:
    """One item less."""
    items = items_of(s, 0)
    if items is None:
        return
    s.ignore(1)
    place = s.numbers(1) if s.has(1) else [-1]
    if items.counted and place is not None and items.axes:
        gone = place[0] % len(items.axes)
        put(s, Items(tuple(axes for i, axes in enumerate(items.axes) if i != gone)))
    else:
        put(s, shared(s, items))


@rule("SequenceAt")
def take(s: Step) -> None:
    """One item; where its place is not known it may be any."""
    items = items_of(s, 0)
    if items is None:
        return
    s.ignore(1)
    place = s.numbers(1)
    if items.counted and place is not None:
        s.out(items.axes[place[0]])
    elif (any_item := shared(s, items)).axes:
        s.out(any_item.axes[0])


@rule("SequenceLength", "OptionalHasElement")
def count(s: Step) -> None:
    """Nothing that a list holds has a say."""
    s.ignore(0)
    s.out([])


@rule("SplitToSequence")
def split(s: Step) -> None:
    """Windows of one axis; the sizes are written out when the axis is cut.

    Positions taken one by one, and windows of which nobody knows how many there are, stay.
    """
    x = s.forced(s.axes(0))
    number = s.integer("axis", 0) % len(x)
    known = held(s, s.node.outputs[0].name)
    if known is None:
        s.refuse("a split into a list of unknown sizes")
        return
    sizes, counted = known
    s.ignore(1)
    axis = x[number]
    if counted and s.has(1) and not axis.is_rigid and axis.is_static:
        edges = np.cumsum([0, *(each[number][0] for each in sizes)])
        rows = s.rows(axis)
        windows = [s.window(of_rows(rows[a:b])) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        s.restate(
            [axis], lambda cut: cut.set_numbers(s.index, 1, None, [cut.count(window) for window in windows])
        )
    else:
        s.pin(axis, "it is taken apart into a list")
        windows = [rigid(each[number], axis.cause) if len(each) == len(x) else ONE for each in sizes]
    items = []
    for window, each in zip(windows, sizes, strict=True):
        middle = [window] if len(each) == len(x) else []
        items.append([*x[:number], *middle, *x[number + 1 :]])
    put(s, Items(tuple(items), counted))


@rule("ConcatFromSequence")
def concat(s: Step) -> None:
    """A list joined along an axis, or stacked along a new one."""
    items = items_of(s, 0)
    if items is None:
        return
    sizes = s.out_sizes()
    number = s.integer("axis", 0) % len(sizes)
    if not items.axes:
        return
    if s.integer("new_axis", 0):
        (axes,) = shared(s, items).axes
        s.out([*axes[:number], rigid(sizes[number], f"items of {s.why}"), *axes[number:]])
    elif items.counted:
        s.out(join(s, list(items.axes)))
    else:
        (axes,) = items.axes
        s.pin(axes[number], "nobody knows how many of them are joined")
        s.out([*axes[:number], rigid(sizes[number], f"items of {s.why}"), *axes[number + 1 :]])


@rule("Optional")
def optional(s: Step) -> None:
    """A list of one tensor or of none."""
    if s.has(0) and s.node.inputs[0].name in s.analysis.sequences:
        s.refuse("a list inside an optional is not followed")
        return
    put(s, Items((s.forced(s.axes(0)),) if s.has(0) else ()))


@rule("OptionalGetElement")
def get_element(s: Step) -> None:
    """What is held; a tensor is held by itself."""
    if s.node.inputs[0].name not in s.analysis.sequences:
        s.out(s.axes(0))
        return
    items = items_of(s, 0)
    if items is not None and items.axes:
        s.out(shared(s, items).axes[0])
