"""The little graphs exporters write to compute shapes: static parts become constants, the rest is said in fewer nodes.

A dynamic axis stays dynamic: what varies with the inputs is copied (0), left open (-1) or read with `Shape`.
"""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.ir.symbols import Dim, Sym, exact_div
from graphrewrite.match import FEW, Draft, Rule, RuleSet, rule
from graphrewrite.match.rules import Result
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.passes.tidy.fold_constants import KnownValues
from graphrewrite.passes.tidy.writing import int64s, reshape, reshape_target
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes

# Shape has `start` and `end` since this version.
_PARTIAL_SHAPE = 15
# How far back a cone of shape arithmetic is followed.
_CONE = 64


@rule("Reshape", name="shape computation replaced by a constant", reach=1)
def computed_target(draft: Draft, node: gs.Node) -> Result:
    """Give a Reshape a constant target where at most one size cannot be written down or copied."""
    if draft.is_constant(node.inputs[1]):
        return False
    before, after = draft.shape(node.inputs[0]), draft.shape(node.outputs[0])
    if before is None or after is None:
        return False
    target = reshape_target(before, after)
    if target is None:
        return False
    return draft.replace(node.outputs[0], reshape(draft, node.inputs[0], target, node.outputs[0]))


# Their inputs broadcast against each other.
_BROADCASTING = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "And",
        "Or",
        "Xor",
        "Equal",
        "Less",
        "LessOrEqual",
        "Greater",
        "GreaterOrEqual",
        "Where",
        "Max",
        "Min",
        "Sum",
        "Mean",
        "Mod",
        "PRelu",
    ]
)


@rule("Expand", name="Expand left to broadcasting", reach=1)
def expand(draft: Draft, node: gs.Node) -> Result:
    """Drop an Expand where all its readers would broadcast its input to the same result."""
    x, out = node.inputs[0], node.outputs[0]
    if draft.is_output(out):
        return False
    users = draft.users(out)
    if not users or len(users) > FEW or not all(_broadcasts_anyway(draft, user, x, out) for user in users):
        return False
    return draft.replace(out, x)


def _broadcasts_anyway(draft: Draft, user: gs.Node, x: gs.Tensor, expanded: gs.Tensor) -> bool:
    result, own = draft.shape(user.outputs[0]), draft.shape(x)
    if user.op not in _BROADCASTING or user.domain or result is None or own is None:
        return False
    if user.op == "PRelu" and user.inputs[0] is expanded:
        return False
    shapes = [own]
    for tensor in user.inputs:
        if tensor is not expanded:
            shape = draft.shape(tensor)
            if shape is None:
                return False
            shapes.append(shape)
    for place in range(1, len(result) + 1):
        size = result[-place]
        if not any(
            len(shape) >= place and (shape[-place] is size or shape[-place] == size) for shape in shapes
        ):
            return False
    return True


@dataclass(frozen=True)
class _Piece:
    """A run of elements of a shape vector: numbers, or sizes `start..end` of a tensor, times `factor`."""

    numbers: tuple[int, ...] = ()
    tensor: gs.Tensor | None = None
    start: int = 0
    end: int = 0
    factor: int = 1


class Restate(Rule):
    """A computed vector of sizes is said anew, directly from the shapes it hangs on, where that takes fewer nodes."""

    name = "shape computation shortened"
    ops = frozenset(
        [
            "Concat",
            "Unsqueeze",
            "Squeeze",
            "Gather",
            "Slice",
            "Mul",
            "Div",
            "Add",
            "Sub",
            "Cast",
            "Reshape",
            "Where",
            "Floor",
            "Ceil",
            "Max",
            "Min",
        ]
    )
    reach = 4

    def apply(self, draft: Draft, node: gs.Node) -> Result:
        """Rebuild the value of `node` if it is a vector or scalar of sizes."""
        out = node.outputs[0]
        if draft.dtype(out) != np.int64 or draft.opset < 13 or draft.is_output(out):
            return False
        values, shape = draft.value(out), draft.shape(out)
        if (
            values is None
            or shape is None
            or values.ndim > 1
            or values.dtype != object
            or not 0 < values.size <= 16
        ):
            return False
        dying, shapes = _cone(draft, node)
        pieces = _pieces(draft, values.reshape(-1).tolist(), [*draft.model.inputs, *shapes])
        if pieces is None or self._cost(draft, pieces, values.ndim) >= dying:
            return False
        return draft.replace(out, self._build(draft, out, pieces, values.ndim))

    def _cost(self, draft: Draft, pieces: list[_Piece], rank: int) -> int:
        read = 1 if draft.opset >= _PARTIAL_SHAPE else 2
        cost = sum((read if piece.tensor is not None else 0) + (piece.factor != 1) for piece in pieces)
        return cost + (len(pieces) > 1) + (rank == 0 and draft.opset >= _PARTIAL_SHAPE)

    def _build(self, draft: Draft, out: gs.Tensor, pieces: list[_Piece], rank: int) -> gs.Tensor:
        parts = [self._part(draft, out, piece, rank) for piece in pieces]
        if len(parts) > 1:
            return draft.op("Concat", *parts, like=out, axis=0)
        if rank == 0 and draft.opset >= _PARTIAL_SHAPE:
            return draft.op("Squeeze", parts[0], int64s(draft, [0], f"{out.name}_axes"), like=out)
        return parts[0]

    def _part(self, draft: Draft, out: gs.Tensor, piece: _Piece, rank: int) -> gs.Tensor:
        if piece.tensor is None:
            return int64s(draft, piece.numbers, f"{out.name}_sizes")
        count = piece.end - piece.start
        if draft.opset >= _PARTIAL_SHAPE:
            part = draft.op("Shape", piece.tensor, shape=(count,), start=piece.start, end=piece.end)
        else:
            whole = draft.op("Shape", piece.tensor, shape=(draft.rank(piece.tensor) or 0,))
            wanted = np.asarray(piece.start if rank == 0 else range(piece.start, piece.end), dtype=np.int64)
            indices = draft.add_constant(wanted, f"{out.name}_axis")
            part = draft.op("Gather", whole, indices, shape=(count,) if rank else (), axis=0)
        if piece.factor != 1:
            factor = draft.add_constant(
                np.asarray([piece.factor] if rank else piece.factor, np.int64), f"{out.name}_factor"
            )
            part = draft.op("Mul", part, factor, shape=(count,) if rank else ())
        return part


def _cone(draft: Draft, node: gs.Node) -> tuple[int, list[gs.Tensor]]:
    """Return how many nodes only serve `node` (itself included), and the tensors whose shapes are read there."""
    left: Counter[int] = Counter()
    dying, shapes, stack = 1, [], [node]
    while stack and dying < _CONE:
        current = stack.pop()
        if current.op == "Shape":
            shapes.append(current.inputs[0])
            continue  # what computes the data is not shape arithmetic
        for tensor in current.inputs:
            maker = draft.producer(tensor)
            if maker is None or maker.op == "Constant":
                continue
            if maker.op == "Shape" and all(maker.inputs[0] is not t for t in shapes):
                shapes.append(maker.inputs[0])
            left[id(tensor)] += 1
            if left[id(tensor)] == draft.use_count(tensor) and len(maker.outputs) == 1:
                dying += 1
                stack.append(maker)
    return dying, shapes


def _pieces(draft: Draft, sizes: list[Dim], tensors: list[gs.Tensor]) -> list[_Piece] | None:
    pieces: list[_Piece] = []
    for size in sizes:
        last = pieces[-1] if pieces else None
        if not isinstance(size, Sym):
            if last is not None and last.tensor is None:
                pieces[-1] = _Piece((*last.numbers, int(size)))
            else:
                pieces.append(_Piece((int(size),)))
            continue
        if last is not None and last.tensor is not None and last.factor == 1:
            shape = draft.shape(last.tensor) or ()
            if last.end < len(shape) and shape[last.end] is size:
                pieces[-1] = _Piece((), last.tensor, last.start, last.end + 1)
                continue
        found = _find(draft, size, tensors)
        if found is None:
            return None
        pieces.append(found)
    return pieces


def _find(draft: Draft, size: Sym, tensors: list[gs.Tensor]) -> _Piece | None:
    """Return where a size can be read: directly, or as a multiple of one that can."""
    multiple: _Piece | None = None
    for tensor in tensors:
        for axis, other in enumerate(draft.shape(tensor) or ()):
            if other is size:
                return _Piece((), tensor, axis, axis + 1)
            if multiple is None and isinstance(other, Sym):
                factor = exact_div(size, other)
                if isinstance(factor, int):
                    multiple = _Piece((), tensor, axis, axis + 1, factor)
    return multiple


RULES = RuleSet.of(computed_target, expand, Restate())


@passes.register("simplify_shapes")
@dataclass(frozen=True)
class SimplifyShapes:
    """State computed shapes in constants where symbolic sizes allow it, in fewer nodes elsewhere."""

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        """Simplify them."""
        return tidy(model, lambda: RuleSet.of(KnownValues()) + RULES)
