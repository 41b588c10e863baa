"""How often a body runs, and with what: the calling conventions of If, Loop, Scan and their like."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.cost.bodies import Given
from graphrewrite.cost.site import Sizes
from graphrewrite.ir.domains import domain_name


class Trip(NamedTuple):
    """One body of a node.

    Attributes:
        attribute: the attribute that holds the body.
        body: the body itself.
        formal: what its inputs are, in order.
        times: how often it runs; None when that is not known before running.
        either: whether it is one of two branches of which one runs, nobody knows which.
        goes_on: whether `times` holds only if the body's first output is known to be true.
        handed_on: how many outputs of the node, the first ones, are tensors the body made last; others are stacked.
    """

    attribute: str
    body: gs.Graph
    formal: tuple[Given, ...] = ()
    times: int | None = 1
    either: bool = False
    goes_on: bool = False
    handed_on: int = 0


def trips(node: gs.Node, given: Callable[[gs.Tensor], Given], opset: int) -> Iterator[Trip]:
    """Yield the bodies of a node; an operator without a known convention runs each body an unknown number of times."""
    bodies = {name: value for name, value in node.attrs.items() if isinstance(value, gs.Graph)}
    if not bodies:
        return
    standard = not domain_name(node.domain)
    if standard and node.op == "If":
        yield from _branches(node, bodies, given)
    elif standard and node.op == "Loop" and "body" in bodies:
        yield _loop(node, bodies["body"], given)
    elif standard and node.op == "Scan" and "body" in bodies:
        yield _scan(node, bodies["body"], given, opset)
    elif node.op == "FlexAttention":
        yield from _modifiers(node, bodies, given)
    else:
        for name, body in bodies.items():
            yield Trip(name, body, times=None)


def _branches(
    node: gs.Node, bodies: dict[str, gs.Graph], given: Callable[[gs.Tensor], Given]
) -> Iterator[Trip]:
    condition = given(node.inputs[0]).numbers
    for name, body in bodies.items():
        if condition is None:
            yield Trip(name, body, either=True, handed_on=len(node.outputs))
        else:
            runs = bool(condition.reshape(-1)[0]) == (name == "then_branch")
            yield Trip(name, body, times=int(runs), handed_on=len(node.outputs))


def _loop(node: gs.Node, body: gs.Graph, given: Callable[[gs.Tensor], Given]) -> Trip:
    """Inputs of the body: counter, condition, state; those of the node: most runs, condition, state."""
    limit = _optional(node, 0, given)
    condition = _optional(node, 1, given)
    always = condition is None or (condition.numbers is not None and bool(condition.numbers.reshape(-1)[0]))
    # What a list holds in later rounds is known of the body's own list, not of the one the loop begins with.
    pairs = [
        (given(tensor), given(inner)) for tensor, inner in zip(node.inputs[2:], body.inputs[2:], strict=False)
    ]
    state = tuple(outer._replace(numbers=None, item=own.item, parts=own.parts) for outer, own in pairs)
    counter = Given((), np.dtype(np.int64))
    going = Given((), np.dtype(np.bool_), np.asarray(True) if always else None)
    times = None
    if limit is not None and limit.numbers is not None and always:
        times = int(limit.numbers.reshape(-1)[0])
    if condition is not None and condition.numbers is not None and not always:
        times = 0
    return Trip("body", body, (counter, going, *state), times, goes_on=True, handed_on=len(state))


def _scan(node: gs.Node, body: gs.Graph, given: Callable[[gs.Tensor], Given], opset: int) -> Trip:
    """State first, then one slice of each scanned input; before opset 9 everything had a batch axis in front."""
    batched = opset < 9
    inputs = list(node.inputs[1:]) if batched else list(node.inputs)
    scanned = node.attrs.get("num_scan_inputs")
    count = scanned if isinstance(scanned, int) else 1
    states, slices = inputs[: len(inputs) - count], inputs[len(inputs) - count :]
    axes = node.attrs.get("scan_input_axes")
    times: int | None = None
    formal = []
    for tensor in states:
        known = given(tensor)
        sizes = known.sizes[1:] if batched and known.sizes else known.sizes
        formal.append(Given(sizes, known.dtype))
    for index, tensor in enumerate(slices):
        known = given(tensor)
        axis = 1 if batched else int(axes[index]) if isinstance(axes, list) else 0
        if known.sizes is not None and -len(known.sizes) <= axis < len(known.sizes):
            axis %= len(known.sizes)
            times = known.sizes[axis] * (known.sizes[0] if batched else 1)
            known = known._replace(sizes=_without(known.sizes, {0, axis} if batched else {axis}))
        formal.append(Given(known.sizes, known.dtype))
    return Trip("body", body, tuple(formal), times, handed_on=len(states))


def _modifiers(
    node: gs.Node, bodies: dict[str, gs.Graph], given: Callable[[gs.Tensor], Given]
) -> Iterator[Trip]:
    """Each modifier of FlexAttention sees all scores once: [batch, heads, queries, keys]."""
    queries, keys = given(node.inputs[0]), given(node.inputs[1])
    scores = None
    if queries.sizes is not None and keys.sizes is not None:
        scores = (*queries.sizes[:3], keys.sizes[2])
    for name, body in bodies.items():
        yield Trip(name, body, (Given(scores, queries.dtype),))


def _optional(node: gs.Node, index: int, given: Callable[[gs.Tensor], Given]) -> Given | None:
    return given(node.inputs[index]) if index < len(node.inputs) and node.inputs[index].name else None


def _without(sizes: Sizes, axes: set[int]) -> Sizes:
    return tuple(size for axis, size in enumerate(sizes) if axis not in axes)
