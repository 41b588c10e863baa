"""Making binary convolutions out of dense ones: where a binary net begins, before it is trained."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.match import Draft
from graphrewrite.passes.binary.around import mean_sizes, planes
from graphrewrite.passes.binary.choice import OLDEST_OPSET, Choice, before_rectifier, label, too_old
from graphrewrite.passes.tidy.reading import source
from graphrewrite.pipeline import Claim, Context, Free, Note, Outcome, passes
from graphrewrite.pipeline.base import Json


@passes.register("binarize")
@dataclass(frozen=True)
class BinarizeConv(Choice):
    """Give convolutions weights of +1 and -1, one size per filter, and inputs of +1 and -1.

    A filter becomes its signs times the mean of its absolute values, which is the nearest such filter (Rastegari and
    others, 2016); a weight of 0 counts as +. The input becomes + where it is at least 0; behind a rectifier the sign
    is taken before it, since all that comes out of one is +. Biases stay. Everything is written in standard operators.

    Args:
        ends: binarize the first and the last convolutions too: those that no layer with weights comes before, or after.
        least_signs: leave filters with fewer weights as they are, depthwise ones above all: so few signs say little.
        skip: patterns (`*` is any text) of convolutions or weights to leave as they are.

    What comes out computes something else, and is meant to be trained: only that it runs is promised.
    """

    claim: ClassVar[Claim] = Free()

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Binarize what is not left out."""
        if model.opset < OLDEST_OPSET:
            return Outcome(model, False, (too_old(model),))
        draft = Draft(model)
        writer = _Writer(draft)
        nodes, notes = self.chosen(draft)
        rows: list[Json] = [writer.write(node) for node in nodes]
        draft.close()
        if rows:
            notes.insert(0, Note("done", "convolutions", f"{len(rows)} binarized"))
        return Outcome(model, bool(rows), tuple(notes), details={"layers": rows})


@dataclass
class _Writer:
    draft: Draft
    signs: dict[int, gs.Tensor] = field(default_factory=dict)  # by the tensor they are of

    def write(self, node: gs.Node) -> Json:
        draft = self.draft
        draft.anchor = node
        weight = draft.constant(node.inputs[1])
        assert weight is not None
        like, shape = node.outputs[0], draft.shape(node.outputs[0])
        size = mean_sizes(weight)
        stored = np.where(weight.astype(np.float32) >= 0, np.float32(1), np.float32(-1))
        origin = (node.inputs[1], "the signs of") if isinstance(node.inputs[1], gs.Constant) else None
        kernel = draft.add_constant(stored, f"{node.inputs[1].name}_signs", origin)
        bias = None if source(node, 2) is None else draft.constant(node.inputs[2])
        out = draft.op(
            "Conv", self._signs(node.inputs[0]), kernel, like=like, shape=shape, attrs=dict(node.attrs)
        )
        out = draft.op("Mul", out, planes(draft, size, "size"), like=like, shape=shape)
        if bias is not None:
            added = planes(draft, np.asarray(bias, np.float32), "bias")
            out = draft.op("Add", out, added, like=like, shape=shape)
        told: Json = {"name": label(node), "filters": len(size), "signs": int(np.prod(weight.shape[1:]))}
        draft.replace(node.outputs[0], out)
        return told

    def _signs(self, tensor: gs.Tensor) -> gs.Tensor:
        x = before_rectifier(self.draft, tensor)
        if id(x) not in self.signs:
            draft = self.draft
            zero = draft.add_constant(np.array(0, np.float32), "zero")
            reached = draft.op("GreaterOrEqual", x, zero)
            draft.describe(reached, draft.shape(x), np.dtype(np.bool_))
            plus, minus = (draft.add_constant(np.array(value, np.float32), "sign") for value in (1, -1))
            self.signs[id(x)] = draft.op("Where", reached, plus, minus, like=tensor)
        return self.signs[id(x)]
