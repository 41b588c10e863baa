"""If, Loop and Scan: bodies are swept where they stand, with the axes of what they capture.

What a branch returns is what the other returns; what a loop carries is one axis before, inside and after every round.
Labels are a union-find, so one sweep of a body is enough: a tie found in it holds for all rounds. How often the body
runs multiplies its multiply-accumulates.
"""

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from graphrewrite.cost.bodies import Given
from graphrewrite.cost.trips import trips
from graphrewrite.dims.axes import UNKNOWN, Axis, Pair, rigid
from graphrewrite.dims.record import Branch, Items
from graphrewrite.dims.rules.sequence import fitted, held, one_of_two, shared, stays_whole
from graphrewrite.dims.sweep import Step, is_constant, pairs, rule, sweep_nodes


@rule("If")
def branches(s: Step) -> None:
    """Both branches return the same axes."""
    bodies = [body for body in (s.attr("then_branch"), s.attr("else_branch")) if isinstance(body, gs.Graph)]
    analysis = s.analysis
    around = analysis.branch
    for body in bodies:
        analysis.branches.append(Branch(s.index, around))
        analysis.branch = len(analysis.branches) - 1
        sweep_nodes(analysis, body)
    analysis.branch = around
    for output, tensor in enumerate(s.node.outputs):
        lists = [analysis.sequences.get(body.outputs[output].name) for body in bodies]
        if any(each is not None for each in lists):
            _either_list(s, lists, output)
            continue
        parts = [_returned(s, body.outputs[output]) for body in bodies]
        known = pairs(analysis.info, tensor.name)
        if known is None or any(part is None or len(part) != len(known) for part in parts):
            for part in parts:
                _pin(s, part, "the branches return tensors of unlike or unknown rank")
            continue
        first, second = (part for part in parts if part is not None)
        s.out([_one(s, a, b, pair) for a, b, pair in zip(first, second, known, strict=True)], output)


def _one(s: Step, a: Axis, b: Axis, pair: tuple[int, int]) -> Axis:
    """Tie what the two branches return along one axis."""
    if a.sizes == b.sizes == pair != UNKNOWN:
        s.tie(a, b)
        return b if a.is_rigid else a
    for axis in (a, b):
        s.pin(axis, "its length differs between the branches")
    return rigid(pair, f"branches of {s.why}")


@rule("Loop")
def loop(s: Step) -> None:
    """Carried tensors keep their axes; what every round adds to an output is stacked along a new first axis."""
    body = s.attr("body")
    assert isinstance(body, gs.Graph)
    carried = max(len(s.node.inputs) - 2, 0)
    for tensor in body.inputs[:2]:
        sizes = pairs(s.analysis.info, tensor.name)
        s.analysis.env[tensor.name] = None if sizes is None else [rigid(p, "counts rounds") for p in sizes]
    lists = {
        k: items for k in range(carried) if (items := _list_entered(s, 2 + k, body.inputs[2 + k])) is not None
    }
    states = {
        k: _entered(s, 2 + k, body.inputs[2 + k], body.outputs[1 + k])
        for k in range(carried)
        if k not in lists
    }
    _sweep(s, body)
    for k, axes in states.items():
        _carried(s, axes, body.outputs[1 + k], k)
    for k, items in lists.items():
        _list_carried(s, items, body.outputs[1 + k], k)
    _pin(s, _returned(s, body.outputs[0]), "it decides whether the loop goes on")
    for k, tensor in enumerate(body.outputs[1 + carried :], start=carried):
        _stacked(s, tensor, k, 0)


@rule("Scan")
def scan(s: Step) -> None:
    """States keep their axes; a scanned axis stays whole, on the way in and on the way out.

    Before operator set 9 everything has a batch axis in front, which the body does not see, and input 0 tells how long
    each sequence is.
    """
    body = s.attr("body")
    assert isinstance(body, gs.Graph)
    hidden = 1 if s.opset < 9 else 0
    scanned = s.integer("num_scan_inputs", 0)
    carried = len(s.node.inputs) - hidden - scanned
    states = [_entered(s, hidden + k, body.inputs[k], body.outputs[k], hidden) for k in range(carried)]
    along = s.integers("scan_input_axes") or [0] * scanned
    for k in range(scanned):
        x = s.forced(s.axes(hidden + carried + k))
        number = hidden + along[k] % (len(x) - hidden)
        for axis in x[:hidden]:
            s.pin(axis, "the batch of a Scan stays")
        s.pin(x[number], "it is scanned")
        _hand_in(
            s, [axis for i, axis in enumerate(x) if i >= hidden and i != number], body.inputs[carried + k]
        )
    _sweep(s, body)
    for k, axes in enumerate(states):
        _carried(s, axes, body.outputs[k], k, hidden)
    collected = body.outputs[carried:]
    along = s.integers("scan_output_axes") or [0] * len(collected)
    for k, tensor in enumerate(collected):
        _stacked(s, tensor, carried + k, along[k], hidden)


def _sweep(s: Step, body: gs.Graph) -> None:
    """Sweep a body with its work counted as often as it runs, as far as that is known."""
    info = s.analysis.info

    def given(tensor: gs.Tensor) -> Given:
        return Given(info.sizes(tensor.name), info.dtype(tensor.name), info.numbers(tensor.name))

    (trip,) = trips(s.node, given, s.opset)
    times = trip.times
    if trip.goes_on and times:
        going = info.numbers(body.outputs[0].name)
        times = times if going is not None and bool(going.reshape(-1)[0]) else None
    outside = s.analysis.times
    s.analysis.times = outside * (1 if times is None else times)
    sweep_nodes(s.analysis, body)
    s.analysis.times = outside


def _entered(s: Step, slot: int, formal: gs.Tensor, leaving: gs.Tensor, hidden: int = 0) -> list[Axis] | None:
    """Hand a carried tensor to the body; an axis whose length is not the same in every round stays whole.

    The body does not see the `hidden` first axes.
    """
    info = s.analysis.info
    entry = pairs(info, s.node.inputs[slot].name)
    entry = None if entry is None else entry[hidden:]
    inside, after = pairs(info, formal.name), pairs(info, leaving.name)
    if entry is None or inside is None or after is None or not len(entry) == len(inside) == len(after):
        _pin(s, s.analysis.env.get(s.node.inputs[slot].name), "the rank of a carried tensor is not known")
        s.analysis.env[formal.name] = (
            None if inside is None else [rigid(p, f"carried by {s.why}") for p in inside]
        )
        return None
    axes = []
    given = s.forced(s.own(slot))
    for axis in given[:hidden]:
        s.pin(axis, "the batch of a Scan stays")
    for axis, a, b, c in zip(given[hidden:], entry, inside, after, strict=True):
        if a == b == c != UNKNOWN:
            axes.append(axis)
            continue
        s.pin(axis, "its length changes from round to round")
        axes.append(rigid(b, f"its length changes from round to round of {s.why}"))
    s.analysis.env[formal.name] = axes
    return axes


def _hand_in(s: Step, axes: Sequence[Axis], formal: gs.Tensor) -> None:
    """Let a formal input of a body have these axes."""
    sizes = pairs(s.analysis.info, formal.name)
    if sizes is None or len(sizes) != len(axes):
        _pin(s, axes, "the rank of what is scanned is not known")
        s.analysis.env[formal.name] = None
        return
    s.analysis.env[formal.name] = [
        axis if axis.sizes == pair else rigid(pair, f"scanned by {s.why}")
        for axis, pair in zip(axes, sizes, strict=True)
    ]


def _carried(s: Step, entry: Sequence[Axis] | None, leaving: gs.Tensor, output: int, hidden: int = 0) -> None:
    """Close the circle: what a round returns is what the next one, and the node, has."""
    after = _returned(s, leaving)
    if entry is None or after is None or len(entry) != len(after):
        _pin(s, entry, "the rank of a carried tensor is not known")
        _pin(s, after, "the rank of a carried tensor is not known")
        return
    whole = pairs(s.analysis.info, s.node.outputs[output].name)
    sizes = None if whole is None else whole[hidden:]
    out = []
    for number, (a, b) in enumerate(zip(entry, after, strict=True)):
        if a.sizes == b.sizes != UNKNOWN:
            s.tie(a, b)
        else:
            for axis in (a, b):
                s.pin(axis, "its length changes from round to round")
        fits = sizes is None or (number < len(sizes) and sizes[number] == a.sizes)
        out.append(a if fits or sizes is None else rigid(sizes[number], f"made by {s.why}"))
    if whole is not None:
        s.out([*(rigid(pair, "a batch") for pair in whole[:hidden]), *out], output)


def _stacked(s: Step, tensor: gs.Tensor, output: int, place: int, hidden: int = 0) -> None:
    """Stack what every round returns along a new axis."""
    after = _returned(s, tensor)
    whole = pairs(s.analysis.info, s.node.outputs[output].name)
    sizes = None if whole is None else whole[hidden:]
    if after is None or sizes is None or len(sizes) != len(after) + 1:
        _pin(s, after, "the rank of a collected tensor is not known")
        return
    place %= len(sizes)
    out = list(after)
    out.insert(place, rigid(sizes[place], f"rounds of {s.why}"))
    for number, (axis, pair) in enumerate(zip(out, sizes, strict=True)):
        if axis.sizes != pair:
            s.pin(axis, "its length changes from round to round")
            out[number] = rigid(pair, f"made by {s.why}")
    s.out([*(rigid(pair, "a batch") for pair in (whole or [])[:hidden]), *out], output)


def _list_entered(s: Step, slot: int, formal: gs.Tensor) -> Items | None:
    """Hand a list that goes round to the body; None for what is no list, or none that is followed.

    A list that is empty at first will hold what the body puts in: its items have labels of their own until then.
    """
    entry = s.analysis.sequences.get(s.node.inputs[slot].name)
    if entry is None:
        return None
    s.ignore(slot)
    known = held(s, formal.name)
    if known is None:
        stays_whole(s, entry, "the sizes of a list that goes round are not known")
        return Items((), counted=False)
    sizes, counted = known
    if not counted or len(sizes) != len(entry.axes):
        entry, counted = shared(s, entry), False
    axes = entry.axes or tuple([s.fresh(pair) for pair in each] for each in sizes)
    if any(len(a) != len(b) for a, b in zip(axes, sizes, strict=False)):
        stays_whole(s, entry, "the ranks in a list that goes round are not one")
        return Items((), counted=False)
    items = Items(tuple(fitted(s, a, b) for a, b in zip(axes, sizes, strict=False)), counted)
    s.analysis.sequences[formal.name] = items
    return items


def _list_carried(s: Step, entry: Items, leaving: gs.Tensor, output: int) -> None:
    """Close the circle: what a round leaves in a list is what the next one, and the node, finds there."""
    after = s.analysis.sequences.get(leaving.name)
    known = held(s, s.node.outputs[output].name)
    if after is None or known is None:
        for items in (entry, after):
            stays_whole(s, items, "what is in a list that goes round is not known")
        return
    if entry.counted and after.counted and len(entry.axes) == len(after.axes):
        axes = tuple(one_of_two(s, a, b) for a, b in zip(entry.axes, after.axes, strict=True))
    else:
        axes = shared(s, Items((*entry.axes, *after.axes))).axes
    _put_list(s, axes, known, output)


def _either_list(s: Step, lists: Sequence[Items | None], output: int) -> None:
    """Let a list be what either branch returns."""
    known = held(s, s.node.outputs[output].name)
    first, second = lists
    if first is None or second is None or known is None:
        for items in lists:
            stays_whole(s, items, "what is in a list that a branch returns is not known")
        return
    if first.counted and second.counted and len(first.axes) == len(second.axes):
        axes = tuple(one_of_two(s, a, b) for a, b in zip(first.axes, second.axes, strict=True))
    else:
        axes = shared(s, Items((*first.axes, *second.axes))).axes
    _put_list(s, axes, known, output)


def _put_list(s: Step, axes: Sequence[list[Axis]], known: tuple[list[list[Pair]], bool], output: int) -> None:
    """Set what a list returned by the node holds; where all items share their axes, one entry stands for all."""
    sizes, counted = known
    if len(axes) == 1:
        axes = list(axes) * len(sizes)
    if len(axes) != len(sizes) or any(len(a) != len(b) for a, b in zip(axes, sizes, strict=True)):
        for each in axes:
            _pin(s, each, "the ranks in a list are not one")
        return
    items = tuple(fitted(s, a, b) for a, b in zip(axes, sizes, strict=True))
    s.analysis.sequences[s.node.outputs[output].name] = Items(items, counted)


def _returned(s: Step, tensor: gs.Tensor) -> list[Axis] | None:
    """Return the axes of what a body returns; a constant is returned whole."""
    if is_constant(tensor):
        sizes = pairs(s.analysis.info, tensor.name)
        return None if sizes is None else [rigid(p, f"a constant that {s.why} returns") for p in sizes]
    axes = s.analysis.env.get(tensor.name)
    if axes is None:
        return None
    axes = s.forced(axes)
    s.analysis.env[tensor.name] = axes
    return axes


def _pin(s: Step, axes: Sequence[Axis] | None, why: str) -> None:
    for axis in axes or ():
        s.pin(axis, why)
