"""Writing a binary layer as one node of ours."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite import custom_ops
from graphrewrite.custom_ops.binary.pack import pack, pack_kernel, words_for
from graphrewrite.custom_ops.spec import Value
from graphrewrite.ir.custom import declare
from graphrewrite.match import Draft
from graphrewrite.passes.binary.chains import Line, Step, Turn
from graphrewrite.passes.binary.layers import Layer
from graphrewrite.passes.binary.signs import Floats, along
from graphrewrite.pipeline.base import Json


@dataclass
class Plan:
    """What becomes of a layer.

    Attributes:
        source: the layer that hands its signs to this one as bits, None where it reads floats.
        end: the tensor that the new node gives, or whose signs it gives.
        steps: the nodes folded in.
        turn: where it gives bits; else `line`.
        shift: a sum with constants that stood behind a sum of this layer with something else, and went into the bias.
        words: the bits it gives, once written.
    """

    layer: Layer
    source: "Plan | None"
    end: gs.Tensor
    steps: tuple[Step, ...]
    turn: Turn | None = None
    line: Line | None = None
    shift: gs.Node | None = None
    words: gs.Tensor | None = None

    @property
    def operator(self) -> str:
        """The name of the operator."""
        stem = "BinaryConv" if self.layer.kind == "conv" else "BinaryMatMul"
        if self.source is not None:
            return stem + ("Bits" if self.turn is not None else "FromBits")
        return stem + ("ToBits" if self.turn is not None else "")

    def told(self) -> dict[str, Json]:
        """Return it for a report; `exact` counts outputs that are rounded as the folded nodes did."""
        layer = self.layer
        told: dict[str, Json] = {
            "name": layer.name,
            "operator": self.operator,
            "channels": layer.channels,
            "outputs": len(layer.scale),
            "folded": [step.node.op for step in self.steps],
        }
        if self.line is not None:
            told["exact"] = int(self.line.exact.sum())
        return told


def write(draft: Draft, plan: Plan) -> None:
    """Put the node in the layer's place. Layers that hand it bits must have been written before."""
    layer = plan.layer
    draft.anchor = layer.node
    inputs: list[gs.Tensor]
    if plan.source is not None:
        assert plan.source.words is not None
        inputs = [plan.source.words]
    else:
        x, threshold = _unshifted(draft, layer)
        each = np.broadcast_to(threshold, (layer.channels,))
        inputs = [x, draft.add_constant(np.array(each, np.float32), f"{layer.name}_x_threshold")]
    plus = layer.plus
    if plan.turn is not None:
        plus = plus ^ plan.turn.flipped.reshape(-1, *[1] * (plus.ndim - 1))
    words = pack_kernel(plus) if layer.kind == "conv" else pack(plus)
    stored = layer.node.inputs[1]
    origin = (stored, "the packed signs of") if isinstance(stored, gs.Constant) else None
    inputs.append(draft.add_constant(words, f"{layer.name}_words", origin))
    if plan.turn is not None:
        inputs.append(draft.add_constant(plan.turn.threshold, f"{layer.name}_threshold"))
    elif plan.line is not None:
        inputs.append(draft.add_constant(plan.line.scale, f"{layer.name}_scale"))
        inputs.append(draft.add_constant(plan.line.bias, f"{layer.name}_bias"))
    declare(draft.model, plan.operator)
    attrs = custom_ops.find(plan.operator).filled(_attributes(layer))
    out = draft.op(plan.operator, *inputs, domain=custom_ops.DOMAIN, attrs=attrs)
    shape = draft.shape(layer.node.outputs[0])
    if plan.turn is None:
        draft.describe(out, shape, np.dtype(np.float32))
        if plan.shift is not None:
            shifted = next(each for each in plan.shift.inputs if not draft.is_constant(each))
            draft.replace(plan.shift.outputs[0], shifted)
        draft.replace(plan.end, out)
        return
    plan.words = out
    if shape is not None:
        count = words_for(len(layer.scale))
        turned = (shape[0], shape[2], shape[3], count) if layer.kind == "conv" else (*shape[:-1], count)
        draft.describe(out, turned, np.dtype(np.uint32))


def _attributes(layer: Layer) -> dict[str, Value]:
    if layer.window is None:
        return {"channels": layer.channels}
    return {
        "channels": layer.channels,
        "group": layer.window.group,
        "strides": layer.window.strides,
        "pads": layer.window.pads,
        "dilations": layer.window.dilations,
    }


def _unshifted(draft: Draft, layer: Layer) -> tuple[gs.Tensor, Floats]:
    """Return what the layer's signs are of before a shift per channel, which becomes a threshold.

    x + b >= 0 says the same as x >= -b in floats too: a sum is 0 only where both are opposite.
    """
    x, threshold = layer.signs.x, layer.signs.threshold
    assert threshold is not None
    maker = draft.producer(x)
    if maker is None or maker.op not in ("Add", "Sub") or threshold.any():
        return x, threshold
    for side in (0, 1) if maker.op == "Add" else (1,):
        values: npt.NDArray[np.generic] | None = draft.constant(maker.inputs[side])
        other = maker.inputs[1 - side]
        if values is None or values.dtype != np.float32 or draft.rank(other) != draft.rank(x):
            continue
        shift = along(values, layer.axis, layer.channels)
        if shift is not None and np.isfinite(shift.astype(np.float32)).all():
            numbers = np.asarray(shift, np.float32)
            return other, -numbers if maker.op == "Add" else numbers
    return x, threshold
