"""Sequences of tensors: followed while their length is known."""

from collections.abc import Sequence

import numpy as np

from graphrewrite.ir.shape_rules.call import INT64, Call, DType, Fact, Unknown, axis_of, shape_rule
from graphrewrite.ir.shape_rules.layout import concat_shapes, unsqueezed
from graphrewrite.ir.symbols import Sym


def _elements(call: Call, index: int) -> tuple[Fact, ...]:
    found = call.sweep.sequences.get(call.names[index])
    if found is None:
        raise Unknown
    return found


def _put(call: Call, elements: Sequence[Fact]) -> None:
    call.sweep.sequences[call.outputs[0]] = tuple(elements)
    call.sweep.dtypes.pop(call.outputs[0], None)


def _position(call: Call, index: int, default: int) -> int:
    if not call.has(index):
        return default
    numbers = call.numbers(index)
    if numbers is None:
        raise Unknown
    return numbers[0]


@shape_rule("SequenceEmpty")
def empty(call: Call) -> None:
    """No elements."""
    _put(call, [])


@shape_rule("SequenceConstruct")
def construct(call: Call) -> None:
    """The inputs in order."""
    _put(call, [call.sweep.fact(name) for name in call.names])


@shape_rule("SequenceInsert")
def insert(call: Call) -> None:
    """One element more."""
    elements = list(_elements(call, 0))
    place = _position(call, 2, len(elements))
    elements.insert(place + len(elements) if place < 0 else place, call.sweep.fact(call.names[1]))
    _put(call, elements)


@shape_rule("SequenceErase")
def erase(call: Call) -> None:
    """One element less."""
    elements = list(_elements(call, 0))
    del elements[_position(call, 1, -1)]
    _put(call, elements)


@shape_rule("SequenceAt")
def at(call: Call) -> None:
    """One element; at an unknown place, what all elements have in common."""
    elements = _elements(call, 0)
    call.sweep.dtypes.pop(call.outputs[0], None)
    numbers = call.numbers(1)
    if numbers is not None:
        chosen = elements[numbers[0]]
        call.put(0, chosen.shape, chosen.dtype, chosen.value)
    elif elements and all(element.shape == elements[0].shape for element in elements):
        call.put(0, elements[0].shape, elements[0].dtype)


@shape_rule("SequenceLength", dtype=INT64)
def length(call: Call) -> None:
    """A scalar."""
    call.put(0, ())
    call.put(0, (), INT64, np.array(len(_elements(call, 0)), dtype=np.int64))


@shape_rule("SplitToSequence")
def split(call: Call) -> None:
    """Windows of one axis: of the given sizes, of one size, or single positions."""
    x, dtype = call.known(0), call.dtype(0)
    axis = axis_of(call.integer("axis", 0), len(x))
    size = x[axis]
    keep = True
    if call.has(1):
        given, shape = call.ints(1), call.shape(1)
        if given is None or shape is None:
            raise Unknown
        sizes = given
        if shape == ():
            step = given[0]
            if isinstance(size, Sym) or isinstance(step, Sym):
                raise Unknown
            sizes = [min(step, size - place) for place in range(0, size, step)]
    else:
        if isinstance(size, Sym):
            raise Unknown
        sizes, keep = [1] * size, bool(call.integer("keepdims", 1))
    _put(call, [_window(x, axis, part, keep, dtype) for part in sizes])


def _window(x: tuple[int | Sym, ...], axis: int, part: int | Sym, keep: bool, dtype: DType | None) -> Fact:
    return Fact((*x[:axis], *((part,) if keep else ()), *x[axis + 1 :]), dtype)


@shape_rule("ConcatFromSequence")
def concat(call: Call) -> None:
    """Put the elements one after the other, or on a new axis."""
    elements = _elements(call, 0)
    call.sweep.dtypes.pop(call.outputs[0], None)
    shapes = [element.shape for element in elements if element.shape is not None]
    if not elements or len(shapes) != len(elements):
        raise Unknown
    axis = call.integer("axis", 0)
    if call.integer("new_axis", 0):
        shapes = [tuple(unsqueezed(shape, [axis])) for shape in shapes]
    call.put(0, concat_shapes(shapes, axis), elements[0].dtype)
