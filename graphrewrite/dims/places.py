"""Tensors whose numbers are positions of an axis: which experts a router has chosen.

TopK and ArgMax name positions of the axis they look along. After a cut they name positions of what is left of it, in
the same order, provided removed positions are never chosen: the reference masks them, and enough have to stay. So
nobody has to renumber anything as long as the numbers are only moved about and used to look up, or write to, another
axis of the same positions. That axis is tied to the first. Any other use of the numbers pins both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import Axis
from graphrewrite.dims.record import Analysis
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import captured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphrewrite.dims.labels import Ints
    from graphrewrite.dims.step import Step
    from graphrewrite.dims.structure import Structure

# What moves or repeats the numbers of its first input without changing them.
_MOVERS = frozenset(
    {
        "Cast",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
# Whose rules tie what they look up with `looked_up`, by the numbers in their second input.
_READERS = frozenset({"Gather", "GatherElements", "GatherND", "ScatterElements", "Scatter"})
_ASKERS = frozenset({"Shape", "Size"})


def choose(s: Step, number: int, axis: Axis, count: int | None, output: int, largest: bool) -> None:
    """Declare that a node picks the `count` largest (or smallest) along axis `number` of input 0, an `axis`.

    Output `output` names them.
    """
    if axis.is_rigid or not axis.is_static or count is None:
        s.pin(axis, "the result names positions of this axis")
        return
    s.mix("lowest" if largest else "highest", 0, {number: axis})
    s.analysis.chosen.append((s.window(axis), count))
    _names(s, output, axis)


def _names(s: Step, output: int, axis: Axis) -> None:
    if output >= len(s.node.outputs) or not s.node.outputs[output].name:
        return
    tensor = s.node.outputs[output]
    s.analysis.places[tensor.name] = axis
    if id(tensor) in s.analysis.returned:
        s.pin(axis, "the result names positions of this axis, and the model returns it")


def follow(s: Step) -> bool:
    """Look at a node that may read numbers of positions, before its rule does; whether nothing is left to do for it."""
    places = s.analysis.places
    if not places:
        return False
    node = s.node
    for tensor in captured(node):
        if tensor.name in places:
            s.pin(places[tensor.name], "a body reads numbers of its positions")
    named = {slot: places[t.name] for slot, t in enumerate(node.inputs) if t.name in places}
    if not named or (not node.domain and node.op in _ASKERS):
        return False
    plain = not domain_name(node.domain)
    if plain and node.op in _MOVERS and set(named) == {0} and _are_whole(s):
        for output in range(len(node.outputs)):
            _names(s, output, named[0])
        return False
    if plain and node.op in _READERS and set(named) == {1}:
        return False
    if plain and node.op == "OneHot" and set(named) == {0} and _one_hot(s, named[0]):
        return True
    pin_named(s, f"{node.op} uses the numbers of its positions as numbers")
    return False


def _are_whole(s: Step) -> bool:
    """Whether what comes out are whole numbers again (a Cast may turn them into others)."""
    dtypes = [s.analysis.info.dtype(tensor.name) for tensor in s.node.outputs if tensor.name]
    return all(
        dtype is not None and np.dtype(dtype).kind in "iu" and np.dtype(dtype).itemsize >= 4
        for dtype in dtypes
    )


def is_read(analysis: Analysis, node: gs.Node) -> bool:
    """Whether a node looks something up by numbers of positions, so that its rule has to see it."""
    return node.op in _READERS and any(tensor.name in analysis.places for tensor in node.inputs)


def looked_up(s: Step, slot: int, axis: Axis) -> bool:
    """Tie an axis that is indexed by input `slot` to the one whose positions it names; whether it names any."""
    place = s.analysis.places.get(s.node.inputs[slot].name)
    if place is None:
        return False
    if axis.is_static and axis.sizes == place.sizes:
        s.tie(axis, place, f"{s.why} looks it up by numbers of positions")
        return True
    s.pin(place, "its numbers look up an axis of another length")
    return False


def pin_named(s: Step, why: str) -> None:
    """Keep every axis whole whose positions an input of a node names."""
    for tensor in (*s.node.inputs, *captured(s.node)):
        if tensor.name in s.analysis.places:
            s.pin(s.analysis.places[tensor.name], why)


def _one_hot(s: Step, place: Axis) -> bool:
    """OneHot of numbers of positions: its new axis is the axis they name."""
    depth = s.numbers(1)
    if depth is None or len(depth) != 1 or depth[0] != place.sizes[0]:
        return False
    index = s.axes(0)
    for slot in (1, 2):
        s.ignore(slot)
    at = s.integer("axis", -1) % (len(index) + 1)
    s.restate([place], lambda cut: cut.set_numbers(s.index, 1, None, [cut.count(place)]))
    s.out([*index[:at], place, *index[at:]])
    s.finish()
    return True


def settle(analysis: Analysis) -> None:
    """Pin what is chosen from products: how many positions stay there is not a matter of one count."""
    for axis, count in analysis.chosen:
        rows = analysis.rows(axis)
        if rows.shape[1] > 1 and count > 1:
            analysis.labels.pin(
                rows, f"{count} are chosen from pairs of labels, of which enough would have to stay"
            )


def least_of(
    structure: Structure, places: Sequence[Sequence[tuple[int, Ints]]], families: Sequence[Ints]
) -> list[int]:
    """Return how many units each family has to keep; `places` are those of `Structure.places`."""
    least = [1] * len(families)
    for axis, count in structure.analysis.chosen:
        number = structure.axis_id(axis)
        for family, _ in places[number] if number >= 0 else ():
            # Of several families on one axis each keeps enough, or all it has.
            least[family] = max(least[family], min(count, len(families[family])))
    return least


__all__ = ["choose", "follow", "is_read", "least_of", "looked_up", "pin_named", "settle"]
