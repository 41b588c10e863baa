"""Where activations become signs: the ways in which graphs write it, as one thing.

What a graph makes of NaN, which is neither above nor below a threshold, is not looked at: nets have none.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.match import Draft, Refusal
from graphrewrite.match.view import is_default_domain
from graphrewrite.passes.tidy.reading import single

Floats = npt.NDArray[np.float32]

# (operator, whether x stands first): the comparison as "x >= threshold", or as "not (x >= threshold)"; whether the
# threshold itself is left out, so that the next number takes its place.
_COMPARISONS: dict[tuple[str, bool], tuple[bool, bool]] = {
    ("GreaterOrEqual", True): (True, False),
    ("Greater", True): (True, True),
    ("Less", True): (False, False),
    ("LessOrEqual", True): (False, True),
    ("LessOrEqual", False): (True, False),
    ("Less", False): (True, True),
    ("Greater", False): (False, False),
    ("GreaterOrEqual", False): (False, True),
}


@dataclass(frozen=True)
class Signs:
    """A tensor of +size and -size.

    Attributes:
        tensor: the tensor. What a layer reads may be this plus and minus something, as training left it behind.
        x: the tensor whose signs they are.
        threshold: float32, one number or one per channel: + where x >= threshold. None for the operator Sign, whose
            value at 0 is 0.
        size: the size of the numbers; negative where - stands for x >= threshold.
        nodes: the nodes between `x` and the tensor.
    """

    tensor: gs.Tensor
    x: gs.Tensor
    threshold: Floats | None
    size: float
    nodes: tuple[gs.Node, ...]


def along(values: npt.NDArray[np.generic], axis: int, length: int) -> npt.NDArray[np.generic] | None:
    """Return a constant that broadcasts along one axis as [length] or [1]; None where it varies along others.

    `axis` counts from the end, -1 being the last.
    """
    shape = values.shape
    if values.size == 1:
        return values.reshape(1)
    if values.size == 0 or len(shape) < -axis or shape[axis] != length:
        return None
    rows = np.moveaxis(values, axis, 0).reshape(length, -1)  # exporters write some constants out in full
    return rows[:, 0] if (rows == rows[:, :1]).all() else None


def signs_of(draft: Draft, tensor: gs.Tensor, axis: int, channels: int) -> Signs | Refusal:
    """Read a tensor as signs of another, channels along `axis` (from the end), or say why it is none."""
    maker = draft.producer(tensor)
    if maker is None or not is_default_domain(maker):
        return Refusal("its input is not the sign of anything", None)
    if maker.op == "Identity":
        inner = signs_of(draft, maker.inputs[0], axis, channels)
        return inner if isinstance(inner, Refusal) else _behind(inner, maker, inner.size)
    if maker.op == "Sign":
        return Signs(tensor, maker.inputs[0], None, 1.0, (maker,))
    if maker.op == "Where":
        plus, minus = single(draft, maker.inputs[1]), single(draft, maker.inputs[2])
        if plus is None or minus is None or plus != -minus or plus == 0 or not np.isfinite(plus):
            return Refusal(
                "its input is chosen from two values that are not one number and its negative", maker
            )
        found = _comparison(draft, maker.inputs[0], axis, channels)
        return found if isinstance(found, Refusal) else _behind(found, maker, found.size * plus)
    through = _straight_through(draft, maker)
    if through is not None:
        inner = signs_of(draft, through.inputs[0], axis, channels)
        if isinstance(inner, Refusal):
            return inner
        return Signs(inner.tensor, inner.x, inner.threshold, inner.size, (*inner.nodes, through, maker))
    if maker.op in ("Sub", "Add"):
        return _from_truth(draft, maker, axis, channels)
    return Refusal("its input is not the sign of anything", maker)


def _behind(inner: Signs, node: gs.Node, size: float) -> Signs:
    return Signs(node.outputs[0], inner.x, inner.threshold, size, (*inner.nodes, node))


def _straight_through(draft: Draft, node: gs.Node) -> gs.Node | None:
    """Return the difference in (signs - v) + v, where v once carried a gradient; None where it is no such sum."""
    if node.op != "Add":
        return None
    for side in (0, 1):
        difference = draft.producer(node.inputs[side])
        if (
            difference is not None
            and difference.op == "Sub"
            and difference.inputs[1] is node.inputs[1 - side]
        ):
            return difference
    return None


def _from_truth(draft: Draft, node: gs.Node, axis: int, channels: int) -> Signs | Refusal:
    """Read 2 * float(x >= threshold) - 1."""
    refusal = Refusal("its input is not the sign of anything", node)
    offset, doubled = single(draft, node.inputs[1]), draft.producer(node.inputs[0])
    if offset is None or doubled is None or doubled.op != "Mul":
        return refusal
    for side in (0, 1):
        factor, cast = single(draft, doubled.inputs[1 - side]), draft.producer(doubled.inputs[side])
        if factor is None or cast is None or cast.op != "Cast":
            continue
        low = offset if node.op == "Add" else -offset
        if factor != -2 * low or factor == 0:
            return refusal
        found = _comparison(draft, cast.inputs[0], axis, channels)
        if isinstance(found, Refusal):
            return found
        nodes = (*found.nodes, cast, doubled, node)
        return Signs(node.outputs[0], found.x, found.threshold, found.size * -low, nodes)
    return refusal


def _comparison(draft: Draft, tensor: gs.Tensor, axis: int, channels: int) -> Signs | Refusal:
    """Read truth values as signs of size 1: true where x >= threshold."""
    maker = draft.producer(tensor)
    if maker is not None and maker.op == "Not":
        inner = _comparison(draft, maker.inputs[0], axis, channels)
        return inner if isinstance(inner, Refusal) else _behind(inner, maker, -inner.size)
    for first in (True, False):
        way = None if maker is None else _COMPARISONS.get((maker.op, first))
        if maker is None or way is None:
            continue
        x, level = maker.inputs[0 if first else 1], draft.constant(maker.inputs[1 if first else 0])
        if level is None or level.dtype != np.float32:
            continue
        threshold = along(level, axis, channels)
        if threshold is None or not np.isfinite(threshold.astype(np.float32)).all():
            return Refusal("its input is compared with numbers that are not one per channel", maker)
        positive, beyond = way
        numbers = np.asarray(threshold, np.float32)
        if beyond:  # x > t is x >= the next number after t
            numbers = np.nextafter(numbers, np.float32(np.inf))
        return Signs(tensor, x, numbers, 1.0 if positive else -1.0, (maker,))
    return Refusal("its input is not chosen by comparing a tensor with constants", maker)
