"""If, Loop and Scan: bodies are swept with what is known outside."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir.shape_rules.call import INT64, Call, Elements, Fact, Shape, Unknown, axis_of, shape_rule
from graphrewrite.ir.shape_rules.common import either_elements, in_common, same, uncounted
from graphrewrite.ir.shape_rules.sweep import Sweep
from graphrewrite.ir.sizes import select
from graphrewrite.ir.symbols import Dim, Sym
from graphrewrite.ir.values import Array

# Sizes that change from round to round become unknown; a loop whose sizes are not settled after this many is given up.
_ROUNDS = 8
# A loop of known length is followed round by round up to this many node visits.
_UNROLL = 512

_BOOL = np.dtype(np.bool_)


@contextmanager
def body_scope(sweep: Sweep, body: gs.Graph) -> Iterator[None]:
    """File the body's constants and forget everything about the body's own names afterwards."""
    own = {tensor.name for tensor in body.inputs} | set(body.initializers)
    own.update(tensor.name for node in body.nodes for tensor in node.outputs)
    tables: tuple[dict[str, object], ...] = (
        sweep.shapes,  # type: ignore[assignment]
        sweep.dtypes,
        sweep.values,
        sweep.stored,
        sweep.sequences,
        sweep.unknowns,
    )
    hidden = [{name: table.pop(name) for name in own if name in table} for table in tables]
    sweep.declare(body.initializers.values())
    try:
        yield
    finally:
        for name in own:
            _remember(sweep, name)
        for table, before in zip(tables, hidden, strict=True):
            for name in own:
                table.pop(name, None)
            table.update(before)


def _remember(sweep: Sweep, name: str) -> None:
    """Note what is known of a tensor inside a body, as far as it agrees with what was known in other rounds."""
    if not name:
        return
    now = sweep.fact(name)
    before = sweep.inside.get(name)
    sweep.inside[name] = now if before is None else in_common(sweep, before, now)


def swept(sweep: Sweep, body: gs.Graph, inputs: list[Fact]) -> list[Fact]:
    """Sweep a body with the given inputs and return what is known of its outputs."""
    with body_scope(sweep, body):
        for tensor, known in zip(body.inputs, inputs, strict=False):
            if not isinstance(tensor, gs.Constant):
                sweep.assume(tensor.name, known)
                sweep.settle(tensor)
        sweep.run(body.nodes)
        for tensor in body.outputs:
            sweep.settle(tensor)
        return [sweep.fact(tensor.name) for tensor in body.outputs]


def _forget_types(call: Call) -> None:
    for name in call.outputs:
        call.sweep.dtypes.pop(name, None)


def _put(call: Call, index: int, known: Fact) -> None:
    if index < len(call.outputs) and call.outputs[index]:
        call.sweep.assume(call.outputs[index], known)


@shape_rule("If")
def if_(call: Call) -> None:
    """A known condition takes one branch; else the outputs are what both branches say."""
    _forget_types(call)
    condition = call.value(0)
    flag = None if condition is None else condition.reshape(-1).tolist()[0]
    if flag is not None and not isinstance(flag, Sym):
        chosen = call.node.attrs["then_branch" if flag else "else_branch"]
        for index, known in enumerate(swept(call.sweep, chosen, [])):
            _put(call, index, known)
        return
    yes = swept(call.sweep, call.node.attrs["then_branch"], [])
    no = swept(call.sweep, call.node.attrs["else_branch"], [])
    for index, (a, b) in enumerate(zip(yes, no, strict=True)):
        _put(call, index, _either(call, flag, a, b))


def _either(call: Call, flag: Sym | None, a: Fact, b: Fact) -> Fact:
    """Return what holds for a tensor that is one of two."""
    dtype = a.dtype if a.dtype is not None else b.dtype
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return Fact(None, dtype, None, either_elements(call.sweep, a.elements, b.elements))
    shape = tuple(_either_size(call, flag, x, y) for x, y in zip(a.shape, b.shape, strict=True))
    value: Array | None = None
    if a.value is not None and b.value is not None and a.value.shape == b.value.shape:
        pairs = zip(a.value.reshape(-1).tolist(), b.value.reshape(-1).tolist(), strict=True)
        flat = [_either_element(flag, x, y) for x, y in pairs]
        if None not in flat:
            value = np.empty(len(flat), dtype=object)
            value[:] = flat  # type: ignore[assignment]
            value = value.reshape(a.value.shape)
            if not any(isinstance(item, Sym) for item in flat):
                value = value.astype(dtype)
    return Fact(shape, dtype, value)


def _either_element(flag: Sym | None, x: object, y: object) -> object | None:
    if isinstance(x, (int, Sym)) and isinstance(y, (int, Sym)):
        if same(x, y):
            return x
        return None if flag is None else select(flag, x, y)
    return x if type(x) is type(y) and isinstance(x, float) and x == y else None


def _either_size(call: Call, flag: Sym | None, x: Dim, y: Dim) -> Dim:
    if same(x, y):
        return x
    return call.unknown() if flag is None else select(flag, x, y)


@shape_rule("Loop")
def loop(call: Call) -> None:
    """Short loops of known length are followed round by round, others by what all rounds have in common."""
    _forget_types(call)
    body = call.node.attrs["body"]
    carried = [call.sweep.fact(name) if name else Fact() for name in call.names[2:]]
    rounds = _limit(call)
    if (
        rounds is not None
        and rounds * (len(body.nodes) + 1) <= _UNROLL
        and _unrolled(call, body, carried, rounds)
    ):
        return
    _repeated(call, body, carried)


def _limit(call: Call) -> int | None:
    """Return the most rounds a loop can make, when that is a number."""
    first = call.value(1) if call.has(1) else np.array(True)
    if first is not None and first.dtype != object and not bool(first.reshape(-1)[0]):
        return 0
    limit = call.numbers(0) if call.has(0) else None
    return None if limit is None or first is None or first.dtype == object else max(limit[0], 0)


def _round_inputs(body: gs.Graph, number: int | None) -> list[Fact]:
    """Return round number and condition as the body declares them: scalars, or one-element vectors."""
    facts = []
    for tensor, value in zip(body.inputs[:2], (number, True), strict=False):
        shape = (1,) if getattr(tensor, "shape", None) is not None and len(tensor.shape) == 1 else ()
        dtype = _BOOL if value is True else INT64
        facts.append(Fact(shape, dtype, None if value is None else np.full(shape, value, dtype=dtype)))
    return facts


def _unrolled(call: Call, body: gs.Graph, carried: list[Fact], rounds: int) -> bool:
    count = len(carried)
    state = carried
    collected: list[list[Fact]] = [[] for _ in body.outputs[count + 1 :]]
    for number in range(rounds):
        after = swept(call.sweep, body, [*_round_inputs(body, number), *state])
        goes_on = after[0].value
        state = after[1 : count + 1]
        for found, known in zip(collected, after[count + 1 :], strict=True):
            found.append(known)
        if goes_on is None or goes_on.dtype == object:
            return False
        if not bool(goes_on.reshape(-1)[0]):
            break
    for index, known in enumerate(state):
        _put(call, index, known)
    for index, found in enumerate(collected, start=count):
        shapes = {known.shape for known in found}
        if len(shapes) == 1 and None not in shapes:
            _put(call, index, Fact((len(found), *(next(iter(shapes)) or ())), found[0].dtype))
    return bool(rounds) or not collected


def _repeated(call: Call, body: gs.Graph, carried: list[Fact]) -> None:
    count = len(carried)
    # Values change from round to round, so only shapes and types are carried along.
    state = [_without_value(known) for known in carried]
    after: list[Fact] = []
    varying: set[Dim] = set()
    for _ in range(_ROUNDS):
        after = swept(call.sweep, body, [*_round_inputs(body, None), *state])
        common = [_common(call, a, b, varying) for a, b in zip(state, after[1:], strict=False)]
        settled = [(known.shape, known.elements) for known in common] == [
            (known.shape, known.elements) for known in state
        ]
        state = common
        if settled:
            break
    else:
        raise Unknown
    for index in range(count):
        _put(call, index, state[index])
    rounds = _rounds(call, after[0])
    for index, known in enumerate(after[count + 1 :], start=count):
        _put(call, index, Fact(None if known.shape is None else (rounds, *known.shape), known.dtype))


def _without_value(known: Fact) -> Fact:
    elements = known.elements
    if elements is not None:
        elements = Elements(tuple(_without_value(fact) for fact in elements.facts), elements.counted)
    return Fact(known.shape, known.dtype, None, elements)


def _common(call: Call, a: Fact, b: Fact, varying: set[Dim]) -> Fact:
    """Return what holds before and after a round, with an unknown size where it changes."""
    dtype = a.dtype if a.dtype is not None else b.dtype
    return Fact(
        _common_shape(call, a.shape, b.shape, varying), dtype, None, _common_elements(call, a, b, varying)
    )


def _common_shape(call: Call, a: Shape | None, b: Shape | None, varying: set[Dim]) -> Shape | None:
    if a is None or b is None or len(a) != len(b):
        return None
    out = []
    for x, y in zip(a, b, strict=True):
        if not same(x, y) and x not in varying:
            x = call.unknown()
            varying.add(x)
        out.append(x)
    return tuple(out)


def _common_elements(call: Call, a: Fact, b: Fact, varying: set[Dim]) -> Elements | None:
    """Return what holds for the elements of a sequence that goes round; its length is known when it never changes."""
    if a.elements is None or b.elements is None:
        return None
    before, after = a.elements, b.elements
    if before.counted and after.counted and len(before.facts) == len(after.facts):
        pairs = zip(before.facts, after.facts, strict=True)
        return Elements(tuple(_common(call, x, _without_value(y), varying) for x, y in pairs))
    before, after = (uncounted(call.sweep, each) for each in (before, after))
    if not before.facts or not after.facts:
        return Elements(tuple(_without_value(fact) for fact in before.facts or after.facts), counted=False)
    return Elements((_common(call, before.facts[0], _without_value(after.facts[0]), varying),), counted=False)


def _rounds(call: Call, condition: Fact) -> Dim:
    """Return how often the body runs, when its condition never ends it early."""
    limit = call.ints(0) if call.has(0) else None
    first = call.value(1) if call.has(1) else np.array(True)
    goes_on = condition.value
    if limit is None or first is None or goes_on is None or first.dtype == object or goes_on.dtype == object:
        return call.unknown()
    if not bool(first.reshape(-1)[0]):
        return 0
    return limit[0] if bool(goes_on.reshape(-1)[0]) else call.unknown()


@shape_rule("Scan")
def scan(call: Call) -> None:
    """States keep their shape; scanned inputs lose an axis and scanned outputs get it.

    Before operator set 9 everything had a batch axis in front, which the body does not see, and input 0 said how long
    each sequence of the batch is.
    """
    _forget_types(call)
    batched = call.opset < 9
    first = 1 if batched else 0
    body = call.node.attrs["body"]
    scanned = call.integer("num_scan_inputs", 1)
    states = len(call.names) - scanned - first
    in_axes = [0] * scanned if batched else call.integers("scan_input_axes") or [0] * scanned
    batch: Dim | None = None
    inputs = []
    length: Dim | None = None
    for index, name in enumerate(call.names[first:]):
        shape, dtype = call.sweep.fact(name)[:2]
        if batched and shape is not None:
            batch, shape = shape[0], shape[1:]
        if index >= states and shape is not None:
            axis = axis_of(in_axes[index - states], len(shape))
            if length is None or isinstance(shape[axis], int):
                length = shape[axis]
            shape = (*shape[:axis], *shape[axis + 1 :])
        inputs.append(Fact(shape, dtype))
    after = swept(call.sweep, body, inputs)
    front = () if not batched else (call.unknown() if batch is None else batch,)
    out_axes = call.integers("scan_output_axes") or [0] * (len(after) - states)
    for index, known in enumerate(after):
        shape, dtype = known.shape, known.dtype
        if index < states:
            entry = inputs[index]
            shape, dtype = entry.shape, entry.dtype if entry.dtype is not None else dtype
        elif shape is not None:
            axis = axis_of(out_axes[index - states], len(shape) + 1)
            shape = (*shape[:axis], call.unknown() if length is None else length, *shape[axis:])
        _put(call, index, Fact(None if shape is None else (*front, *shape), dtype))
