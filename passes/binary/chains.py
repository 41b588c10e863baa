"""What becomes of a layer's sums before they are read: the nodes behind it, tried on every sum there can be.

A sum of K signs is one of the whole numbers -K ... K. So whatever a chain of nodes does to each number by itself, one
function per channel, is known completely once it has been run on all of them: where the sign behind it turns, and
whether it is a product and a sum.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.ir import Builder, Model, constant_value
from graphrewrite.match import Draft
from graphrewrite.match.view import is_default_domain
from graphrewrite.passes.binary.layers import Layer
from graphrewrite.passes.binary.signs import Floats, along
from graphrewrite.runtime import run

_AFFINE = frozenset({"Add", "Sub", "Mul", "Div", "BatchNormalization", "Identity"})
_EACH = _AFFINE | {
    "PRelu",
    "Relu",
    "LeakyRelu",
    "Clip",
    "Neg",
    "Tanh",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Elu",
    "Selu",
    "Softplus",
    "Softsign",
    "ThresholdedRelu",
}
_PAIRS = frozenset({"Add", "Sub", "Mul", "Div"})
# Numbers tried at once.
_AT_ONCE = 1 << 23

Sums = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """A node that works on each number by itself, and the tensor it gives."""

    node: gs.Node
    tensor: gs.Tensor
    is_affine: bool


def steps_behind(draft: Draft, layer: Layer) -> Iterator[Step]:
    """Yield the nodes behind a layer, each the only reader of the one before, one function per channel each."""
    tensor = layer.node.outputs[0]
    while True:
        node = draft.sole_user(tensor)
        if node is None or not _works_on_each(draft, node, tensor, layer):
            return
        tensor = node.outputs[0]
        yield Step(node, tensor, node.op in _AFFINE)


def _works_on_each(draft: Draft, node: gs.Node, tensor: gs.Tensor, layer: Layer) -> bool:
    if not is_default_domain(node) or node.op not in _EACH or len(node.outputs) != 1:
        return False
    if node.op == "BatchNormalization" and (
        node.attrs.get("training_mode", 0) or layer.axis != (-1 if draft.rank(tensor) == 2 else -3)
    ):
        return False
    places = [index for index, each in enumerate(node.inputs) if each is tensor]
    if len(places) != 1 or (node.op not in _PAIRS and places != [0]):
        return False
    outputs = len(layer.scale)
    for index, each in enumerate(node.inputs):
        if each is tensor or each.is_empty():
            continue
        values = draft.constant(each)
        if values is None or values.dtype != np.float32 or not np.isfinite(values).all():
            return False
        if node.op == "BatchNormalization":
            continue
        rank = draft.rank(tensor)
        if along(values, layer.axis, outputs) is None or rank is None or values.ndim > rank:
            return False
        if node.op == "Div" and (index == 0 or not np.all(values)):
            return False
    return True


def shift_behind(draft: Draft, layer: Layer, end: gs.Tensor) -> tuple[gs.Node, Floats] | None:
    """Return the sum with constants that is all that reads a sum of `end` with another tensor, and what it adds.

    The shift before a rectifier stands there, in nets with a sum around every layer: a + x + shift is (a + shift) + x.
    """
    node = draft.sole_user(end)
    if node is None or node.op != "Add" or not is_default_domain(node):
        return None
    if any(draft.is_constant(each) for each in node.inputs) or node.inputs[0] is node.inputs[1]:
        return None
    total = node.outputs[0]
    shift = draft.sole_user(total)
    if shift is None or shift.op not in ("Add", "Sub") or not _works_on_each(draft, shift, total, layer):
        return None
    if shift.op == "Sub" and shift.inputs[0] is not total:
        return None
    other = shift.inputs[1 if shift.inputs[0] is total else 0]
    added = along(_values(other), layer.axis, len(layer.scale))
    if added is None or draft.is_output(total):
        return None
    numbers = np.asarray(added, np.float32)
    return shift, -numbers if shift.op == "Sub" else numbers


def all_sums(layer: Layer) -> Sums:
    """Return every sum the layer can give, in order, and 0."""
    return np.arange(-layer.most, layer.most + 1)


def table(model: Model, layer: Layer, steps: Sequence[Step], sums: Sums) -> Floats:
    """Return what the steps make of the sums, [sums, outputs], as onnxruntime computes it."""
    outputs = len(layer.scale)
    if not steps:
        return np.repeat(sums.astype(np.float32)[:, None], outputs, axis=1)
    small = _only(model, layer, steps)
    parts = []
    part = max(1, _AT_ONCE // outputs)
    for start in range(0, len(sums), part):
        numbers = np.repeat(sums[start : start + part].astype(np.float32)[:, None], outputs, axis=1)
        fed = np.ascontiguousarray(numbers.T)[None, :, :, None] if layer.kind == "conv" else numbers
        (found,) = run(small, {"sums": fed}).values()
        parts.append(found[0, :, :, 0].T if layer.kind == "conv" else found)
    return np.concatenate(parts)


def _only(model: Model, layer: Layer, steps: Sequence[Step]) -> Model:
    """Return a model of the steps alone, one number per channel and position."""
    b = Builder(opset=model.opset)
    outputs = len(layer.scale)
    tensor = b.input([1, outputs, "positions", 1] if layer.kind == "conv" else ["positions", outputs], "sums")
    seen = layer.node.outputs[0]
    for step in steps:
        sources: list[gs.Tensor | None] = []
        for each in step.node.inputs:
            values = None if each is seen or each.is_empty() else constant_value(each)
            sources.append(tensor if each is seen else None if values is None else b.constant(values))
        tensor = b.op(step.node.op, *sources, **step.node.attrs)
        seen = step.tensor
    return b.model(tensor)


@dataclass(frozen=True)
class Turn:
    """Where signs behind a layer turn.

    Attributes:
        threshold: [outputs] int32; + where the sum reaches it.
        flipped: [outputs] whether the weights have to be negated for that.
    """

    threshold: npt.NDArray[np.int32]
    flipped: npt.NDArray[np.bool_]


def turn(values: Floats, sums: Sums, level: Floats) -> Turn | str:
    """Return where `values` [sums, outputs] reach `level` ([outputs] or [1]), or why no single threshold says it."""
    is_plus = values >= level
    changes = is_plus[1:] != is_plus[:-1]
    if (changes.sum(axis=0) > 1).any():
        return "the sign behind it turns more than once"
    turns = changes.any(axis=0)
    at = changes.argmax(axis=0)
    low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    flipped = turns & is_plus[0]
    threshold = np.where(is_plus[0], low, high)
    threshold = np.where(turns & ~is_plus[0], sums[at + 1], threshold)
    threshold = np.where(flipped, -sums[at], threshold)  # + up to sums[at]: the negated sum reaches -sums[at]
    return Turn(threshold.astype(np.int32), flipped)


@dataclass(frozen=True)
class Line:
    """A product and a sum that do what a chain does: sum * scale + bias, both rounded; `exact` where to the bit."""

    scale: Floats
    bias: Floats
    exact: npt.NDArray[np.bool_]


def line(layer: Layer, steps: Sequence[Step], values: Floats, sums: Sums) -> Line:
    """Return the line that affine steps draw through `values` [sums, outputs]."""
    bias = values[int(np.flatnonzero(sums == 0)[0])].copy()
    whole = sums.astype(np.float32)[:, None]
    slope = _slope(layer, steps).astype(np.float32)
    best, exact = slope, np.zeros(len(slope), bool)
    # The products of a chain are rounded one by one; the one factor that gives the same lies beside their product.
    for candidate in (
        slope,
        np.nextafter(slope, np.float32(np.inf)),
        np.nextafter(slope, np.float32(-np.inf)),
    ):
        fits = (whole * candidate + bias == values).all(axis=0)
        best = np.where(fits & ~exact, candidate, best)
        exact |= fits
    return Line(best.astype(np.float32), bias, exact)


def _slope(layer: Layer, steps: Sequence[Step]) -> npt.NDArray[np.float64]:
    slope = np.ones(len(layer.scale))
    seen = layer.node.outputs[0]
    for step in steps:
        node = step.node
        if node.op == "BatchNormalization":
            gain, variance = _values(node.inputs[1]), _values(node.inputs[4])
            slope = slope * (gain / np.sqrt(variance + float(node.attrs.get("epsilon", 1e-5))))
        elif node.op in ("Mul", "Div", "Sub"):
            first = node.inputs[0] is seen
            other = _values(node.inputs[1 if first else 0])
            found = along(other, layer.axis, len(slope))
            assert found is not None
            factor = np.asarray(found, np.float64)
            if node.op == "Mul":
                slope = slope * factor
            elif node.op == "Div":
                slope = slope / factor
            elif not first:
                slope = -slope
        seen = step.tensor
    return slope


def _values(tensor: gs.Tensor) -> npt.NDArray[np.float64]:
    values = constant_value(tensor)
    assert values is not None
    return values.astype(np.float64)
