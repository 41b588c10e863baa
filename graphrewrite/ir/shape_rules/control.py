"""If, Loop and Scan: bodies are swept with what is known outside; sequences are left unknown."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir.shape_rules.call import INT64, Call, DType, Shape, Unknown, axis_of, shape_rule
from graphrewrite.ir.shape_rules.sweep import Sweep
from graphrewrite.ir.symbols import Dim, Sym, select
from graphrewrite.ir.values import Array

Fact = tuple[Shape | None, DType | None, Array | None]

# Shapes that change from round to round become unknown; this many rounds always suffice to notice.
_ROUNDS = 3


@contextmanager
def body_scope(sweep: Sweep, body: gs.Graph) -> Iterator[None]:
    """File the body's constants and forget everything about the body's own names afterwards."""
    own = {tensor.name for tensor in body.inputs} | set(body.initializers)
    own.update(tensor.name for node in body.nodes for tensor in node.outputs)
    tables: tuple[dict[str, object], ...] = (sweep.shapes, sweep.dtypes, sweep.values, sweep.stored)  # type: ignore[assignment]
    hidden = [{name: table.pop(name) for name in own if name in table} for table in tables]
    sweep.declare(body.initializers.values())
    try:
        yield
    finally:
        for table, before in zip(tables, hidden, strict=True):
            for name in own:
                table.pop(name, None)
            table.update(before)


def fact(sweep: Sweep, name: str) -> Fact:
    """Return (shape, type, value) of a tensor."""
    return sweep.shapes.get(name), sweep.dtypes.get(name), sweep.value(name)


def assume(sweep: Sweep, name: str, known: Fact) -> None:
    """File (shape, type, value) of a tensor."""
    for table, item in zip((sweep.shapes, sweep.dtypes, sweep.values), known, strict=True):
        if item is not None:
            table[name] = item  # type: ignore[index]


def swept(sweep: Sweep, body: gs.Graph, inputs: list[Fact]) -> list[Fact]:
    """Sweep a body with the given inputs and return what is known of its outputs."""
    with body_scope(sweep, body):
        for tensor, known in zip(body.inputs, inputs, strict=False):
            if isinstance(tensor, gs.Constant):
                continue
            assume(sweep, tensor.name, known)
            sweep.settle(tensor)
        sweep.run(body.nodes)
        for tensor in body.outputs:
            sweep.settle(tensor)
        return [fact(sweep, tensor.name) for tensor in body.outputs]


@shape_rule("If")
def if_(call: Call) -> None:
    """A known condition takes one branch; else the outputs are what both branches say."""
    call.sweep.dtypes.pop(call.outputs[0], None)
    for name in call.outputs:
        call.sweep.dtypes.pop(name, None)
    condition = call.value(0)
    flag = None if condition is None else condition.reshape(-1).tolist()[0]
    if flag is not None and not isinstance(flag, Sym):
        chosen = call.node.attrs["then_branch" if flag else "else_branch"]
        for index, known in enumerate(swept(call.sweep, chosen, [])):
            put_fact(call, index, known)
        return
    yes = swept(call.sweep, call.node.attrs["then_branch"], [])
    no = swept(call.sweep, call.node.attrs["else_branch"], [])
    for index, (a, b) in enumerate(zip(yes, no, strict=True)):
        put_fact(call, index, merged(call, flag, a, b))


def put_fact(call: Call, index: int, known: Fact) -> None:
    """Put (shape, type, value) for an output."""
    call.put(index, known[0], known[1], known[2])


def merged(call: Call, flag: Sym | None, a: Fact, b: Fact) -> Fact:
    """Return what holds for a tensor that is either of two."""
    dtype = a[1] if a[1] is not None else b[1]
    if a[0] is None or b[0] is None or len(a[0]) != len(b[0]):
        return None, dtype, None
    shape = tuple(either(call, flag, x, y) for x, y in zip(a[0], b[0], strict=True))
    value: Array | None = None
    if (
        a[2] is not None
        and b[2] is not None
        and a[2].shape == b[2].shape
        and np.asarray(a[2]).dtype.kind in "iubO"
    ):
        flat = [
            _element(flag, x, y)
            for x, y in zip(a[2].reshape(-1).tolist(), b[2].reshape(-1).tolist(), strict=True)
        ]
        if all(item is not None for item in flat):
            value = np.empty(len(flat), dtype=object)
            value[:] = flat  # type: ignore[assignment]
            value = value.reshape(a[2].shape)
            if not any(isinstance(item, Sym) for item in flat) and dtype is not None:
                value = value.astype(dtype)
    return shape, dtype, value


def _element(flag: Sym | None, x: object, y: object) -> Dim | None:
    if not isinstance(x, (int, Sym)) or not isinstance(y, (int, Sym)):
        return None
    if x is y or (isinstance(x, int) and isinstance(y, int) and x == y):
        return x
    return None if flag is None else select(flag, x, y)


def either(call: Call, flag: Sym | None, x: Dim, y: Dim) -> Dim:
    """Return a size that is x or y, as the flag says."""
    if x is y or (isinstance(x, int) and isinstance(y, int) and x == y):
        return x
    return call.unknown() if flag is None else select(flag, x, y)


@shape_rule("Loop")
def loop(call: Call) -> None:
    """Carried tensors keep what all rounds agree on; collected outputs get the number of rounds in front."""
    for name in call.outputs:
        call.sweep.dtypes.pop(name, None)
    sweep = call.sweep
    body = call.node.attrs["body"]
    carried = [fact(sweep, name) for name in call.names[2:]]
    count = len(carried)
    # Values change from round to round, unless a round shows that it hands on what it got.
    state: list[Fact] = [(shape, dtype, None) for shape, dtype, _ in carried]
    start: list[Fact] = [((), INT64, None), ((), np.dtype(np.bool_), None)]
    after: list[Fact] = []
    for _ in range(_ROUNDS):
        after = swept(sweep, body, [*start, *state])
        joined = [
            (_common(call, s[0], e[0]), s[1] if s[1] is not None else e[1], None)
            for s, e in zip(state, after[1 : count + 1], strict=True)
        ]
        if [item[0] for item in joined] == [item[0] for item in state]:
            break
        state = [(shape, dtype, None) for shape, dtype, _ in joined]
    for index in range(count):
        call.put(index, state[index][0], state[index][1])
    rounds = _rounds(call, after[0])
    for index, known in enumerate(after[count + 1 :], start=count):
        call.put(index, None if known[0] is None else (rounds, *known[0]), known[1])


def _common(call: Call, a: Shape | None, b: Shape | None) -> Shape | None:
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(
        x if x is y or (isinstance(x, int) and isinstance(y, int) and x == y) else _varying(call, x)
        for x, y in zip(a, b, strict=True)
    )


def _varying(call: Call, x: Dim) -> Dim:
    return x if isinstance(x, Sym) and x.sample == (None, None) else call.unknown()


def _rounds(call: Call, condition: Fact) -> Dim:
    """Return how often the body runs, when its condition never ends it early."""
    limit = call.ints(0) if call.has(0) else None
    first = call.value(1) if call.has(1) else np.array(True)
    goes_on = condition[2]
    if limit is None or first is None or goes_on is None or first.dtype == object or goes_on.dtype == object:
        return call.unknown()
    if not bool(first.reshape(-1)[0]):
        return 0
    return limit[0] if bool(goes_on.reshape(-1)[0]) else call.unknown()


@shape_rule("Scan")
def scan(call: Call) -> None:
    """States keep their shape; scanned inputs lose an axis and scanned outputs get it."""
    for name in call.outputs:
        call.sweep.dtypes.pop(name, None)
    if call.opset < 9:
        raise Unknown
    body = call.node.attrs["body"]
    scanned = call.integer("num_scan_inputs", 1)
    states = len(call.names) - scanned
    in_axes = call.integers("scan_input_axes") or [0] * scanned
    inputs: list[Fact] = [(*fact(call.sweep, name)[:2], None) for name in call.names[:states]]
    length: Dim | None = None
    for index in range(scanned):
        shape = call.shape(states + index)
        if shape is not None:
            axis = axis_of(in_axes[index], len(shape))
            if length is None or isinstance(shape[axis], int):
                length = shape[axis]
            shape = (*shape[:axis], *shape[axis + 1 :])
        inputs.append((shape, call.dtype(states + index), None))
    after = swept(call.sweep, body, inputs)
    out_axes = call.integers("scan_output_axes") or [0] * (len(after) - states)
    for index in range(states):
        call.put(
            index, inputs[index][0], inputs[index][1] if inputs[index][1] is not None else after[index][1]
        )
    for index, known in enumerate(after[states:]):
        shape = known[0]
        if shape is not None:
            axis = axis_of(out_axes[index], len(shape) + 1)
            shape = (*shape[:axis], call.unknown() if length is None else length, *shape[axis:])
        call.put(states + index, shape, known[1])


@shape_rule("SequenceLength", dtype=INT64)
def sequence_length(call: Call) -> None:
    """A scalar."""
    call.put(0, ())
