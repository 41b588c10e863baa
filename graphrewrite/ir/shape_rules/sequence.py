"""Sequences of tensors, and optionals, which are sequences of at most one: what is known of their elements."""

from collections.abc import Sequence

import numpy as np

from graphrewrite.ir.shape_rules.call import (
    BOOL,
    INT64,
    Call,
    DType,
    Elements,
    Fact,
    Unknown,
    axis_of,
    shape_rule,
)
from graphrewrite.ir.shape_rules.common import uncounted
from graphrewrite.ir.shape_rules.layout import concat_shapes, unsqueezed
from graphrewrite.ir.symbols import Dim, Sym


def _elements(call: Call, index: int) -> Elements:
    found = call.sweep.sequences.get(call.names[index])
    if found is None:
        raise Unknown
    return found


def _put(call: Call, facts: Sequence[Fact], counted: bool = True) -> None:
    elements = Elements(tuple(facts))
    call.sweep.sequences[call.outputs[0]] = elements if counted else uncounted(call.sweep, elements)
    call.sweep.dtypes.pop(call.outputs[0], None)


def _take(call: Call, chosen: Fact) -> None:
    """Let the output be an element."""
    call.sweep.dtypes.pop(call.outputs[0], None)
    call.sweep.assume(call.outputs[0], chosen)


def _position(call: Call, index: int, default: int) -> int | None:
    """Return a place in a sequence, None when it is not known."""
    if not call.has(index):
        return default
    numbers = call.numbers(index)
    return None if numbers is None else numbers[0]


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
    facts, counted = _elements(call, 0)
    place = _position(call, 2, len(facts))
    place = len(facts) if place is None else place + len(facts) if place < 0 else place
    known = not call.has(2) or call.numbers(2) is not None
    # At a place nobody knows, each element may be any of them.
    counted = counted and (known or not facts)
    _put(call, [*facts[:place], call.sweep.fact(call.names[1]), *facts[place:]], counted)


@shape_rule("SequenceErase")
def erase(call: Call) -> None:
    """One element less."""
    facts, counted = _elements(call, 0)
    place = _position(call, 1, -1)
    if counted and place is not None:
        _put(call, [fact for i, fact in enumerate(facts) if i != place % max(len(facts), 1)])
    else:
        _put(call, facts, counted=False)


@shape_rule("SequenceAt")
def at(call: Call) -> None:
    """One element; at an unknown place, what all elements have in common."""
    elements = _elements(call, 0)
    place = _position(call, 1, -1)
    if elements.counted and place is not None:
        _take(call, elements.facts[place])
    elif elements.facts:
        _take(call, uncounted(call.sweep, elements).facts[0])


@shape_rule("SequenceLength", dtype=INT64)
def length(call: Call) -> None:
    """A scalar."""
    call.put(0, ())
    elements = _elements(call, 0)
    if elements.counted:
        call.put(0, (), INT64, np.array(len(elements.facts), dtype=np.int64))


@shape_rule("SplitToSequence")
def split(call: Call) -> None:
    """Windows of one axis: of the given sizes, of one size, or single positions."""
    x, dtype = call.known(0), call.dtype(0)
    axis = axis_of(call.integer("axis", 0), len(x))
    size = x[axis]
    if not call.has(1):
        keep = bool(call.integer("keepdims", 1))
        count = 1 if isinstance(size, Sym) else size
        _put(call, [_window(x, axis, 1, keep, dtype)] * count, counted=not isinstance(size, Sym))
        return
    given, shape = call.ints(1), call.shape(1)
    if given is None or shape is None:
        _put(call, [_window(x, axis, call.unknown(), True, dtype)], counted=False)
        return
    sizes = given
    if shape == ():
        step = given[0]
        if isinstance(size, Sym) or isinstance(step, Sym):
            # The last one may be shorter, unless all are of one position.
            window = 1 if step == 1 else call.unknown()
            _put(call, [_window(x, axis, window, True, dtype)], counted=False)
            return
        sizes = [min(step, size - place) for place in range(0, size, step)]
    _put(call, [_window(x, axis, part, True, dtype) for part in sizes])


def _window(x: tuple[Dim, ...], axis: int, part: Dim, keep: bool, dtype: DType | None) -> Fact:
    return Fact((*x[:axis], *((part,) if keep else ()), *x[axis + 1 :]), dtype)


@shape_rule("ConcatFromSequence")
def concat(call: Call) -> None:
    """Put the elements one after the other, or on a new axis."""
    facts, counted = _elements(call, 0)
    call.sweep.dtypes.pop(call.outputs[0], None)
    shapes = [fact.shape for fact in facts if fact.shape is not None]
    if not facts or len(shapes) != len(facts):
        raise Unknown
    axis = call.integer("axis", 0)
    if call.integer("new_axis", 0):
        shapes = [tuple(unsqueezed(shape, [axis])) for shape in shapes]
    if counted:
        call.put(0, concat_shapes(shapes, axis), facts[0].dtype)
        return
    joined = list(shapes[0])
    joined[axis_of(axis, len(joined))] = call.unknown()
    call.put(0, joined, facts[0].dtype)


@shape_rule("Optional")
def optional(call: Call) -> None:
    """Hold one tensor, or nothing."""
    _put(call, [call.sweep.fact(name) for name in call.names if name])


@shape_rule("OptionalGetElement")
def get_element(call: Call) -> None:
    """The tensor held; a tensor is held by itself."""
    if call.names[0] in call.sweep.shapes:
        call.put(0, call.known(0))
        return
    elements = _elements(call, 0)
    if elements.facts:
        _take(call, elements.facts[0])


@shape_rule("OptionalHasElement", dtype=BOOL)
def has_element(call: Call) -> None:
    """A scalar; true or false where it is known which."""
    call.put(0, ())
    if call.names and call.names[0] in call.sweep.shapes:
        call.put(0, (), BOOL, np.array(True))
    elif not call.names or not call.names[0]:
        call.put(0, (), BOOL, np.array(False))
    elif (elements := call.sweep.sequences.get(call.names[0])) is not None and elements.counted:
        call.put(0, (), BOOL, np.array(bool(elements.facts)))
