"""The pass that rounds weights and activations to 8 bits, between quantisers that integer kernels take up."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Model
from graphrewrite.ir.garbage import paused
from graphrewrite.match.view import View
from graphrewrite.passes.patterns import as_tuples, check_weights_named
from graphrewrite.passes.quant.calibrators import Calibrator
from graphrewrite.passes.quant.calibrators.min_max import MinMaxRange
from graphrewrite.passes.quant.correct import seen_shares, taken
from graphrewrite.passes.quant.grid import (
    GRIDS,
    Grid,
    Scale,
    Stored,
    least_steps,
    stored_bias,
    stored_operand,
    stored_weight,
)
from graphrewrite.passes.quant.measure import Measured, Sweep
from graphrewrite.passes.quant.plan import Choice, Chooser, Layer, name_of
from graphrewrite.passes.quant.rounders import Rounder, Task
from graphrewrite.passes.quant.rounders.nearest import Nearest
from graphrewrite.passes.quant.write import Operand, Plan, Quantisers, Rounding, Simulated, write
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json

_OLDEST_OPSET = 13  # quantisers take a scale per channel from here on


@passes.register("insert_qdq")
@dataclass(frozen=True)
class InsertQdq:
    """Round weights to int8 and activations to 8 bits, with QuantizeLinear and DequantizeLinear around every layer.

    Args:
        calibrator: how the span of an activation is found on the context's data.
        activations: their codes: "uint8" and "int8" fit both ends of the span, "uint8_symmetric" and "int8_symmetric"
            give zero the middle code, and leave a Relu to be computed.
        per_channel: a step for each output of a weight; otherwise one for all.
        weight_bits: 2 to 8; weights of 7 bits cannot saturate the 16-bit sums of processors without VNNI, those of 6 or
            less are filed packed and become int8 when the model is loaded.
        correct_bias: add to biases what the rounding of weights takes from the mean of each output.
        only: patterns (`*` is any text) of the layers to quantise; empty for all.
        skip: patterns of layers to leave in float.
        batch: samples that are run together for calibration.
        cache: a JSON file with what was measured earlier, which is written too; empty for none.
        rounder: which of the codes next to it a weight gets.

    Layers are Conv, Gemm and MatMul with a constant weight. What stands between them is quantised where bytes come in
    and bytes go out, so that onnxruntime fuses all of it into integer kernels; the rest stays in float. The claim is
    equality with a graph of floats in which every rounding is written out.
    """

    calibrator: Calibrator = MinMaxRange()
    activations: str = "uint8"
    per_channel: bool = True
    weight_bits: int = 8
    correct_bias: bool = True
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    batch: int = 16
    cache: str = ""
    rounder: Rounder = Nearest()

    claim: ClassVar[Claim] = SameAs(1e-5, "the input model with every rounding written out in floats")

    def __post_init__(self) -> None:
        if self.activations not in GRIDS:
            raise InvalidConfig(
                f"InsertQdq.activations is {self.activations!r}; expected one of {', '.join(GRIDS)}"
            )
        if isinstance(self.weight_bits, bool) or not 2 <= self.weight_bits <= 8:
            raise InvalidConfig(
                f"InsertQdq.weight_bits is {self.weight_bits!r}; expected a whole number from 2 to 8"
            )
        if isinstance(self.batch, bool) or self.batch < 1:
            raise InvalidConfig(f"InsertQdq.batch is {self.batch!r}; expected a whole number of at least 1")
        as_tuples(self, "only", "skip")

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Choose, calibrate and write; say of every layer what became of it."""
        if model.opset < _OLDEST_OPSET:
            why = f"its operator set is {model.opset}; scales per channel need {_OLDEST_OPSET}: convert it first"
            return Outcome(model, False, (Note("skipped", "the whole model", why),))
        grid = GRIDS[self.activations]
        view = View(model)
        choice = Chooser(view, self.only, self.skip, not grid.symmetric).choose()
        layers = choice.layers
        named = [name_of(layer.node) for layer in layers.values()]
        check_weights_named((*self.only, *self.skip), [*named, *choice.left])
        notes = [Note("skipped", name, why) for name, why in choice.left.items()]
        if not layers:
            if not notes:
                notes.append(Note("skipped", "the whole model", "it has no layer with a constant weight"))
            return Outcome(model, False, tuple(notes), details={"layers": _rows({}, choice)})
        before = model.clone()
        measured = self._measured(before, choice, context)
        scales = {name: grid.scale(span) for name, span in measured.spans.items()}
        stored = {key: self._stored(view, layer, scales, choice, measured) for key, layer in layers.items()}
        nearest = _plan(view, choice, scales, stored, grid)

        def simulated(plan: Plan) -> Model:
            model = before.clone()
            write(model, plan, Simulated(grid))
            return model

        assert context.data is not None
        plan = self.rounder.round(Task(before, nearest, simulated, context.data, context, self.batch))
        stored = _as_planned(view, stored, plan)
        write(model, plan, Quantisers(grid))
        between = f", {len(choice.others)} nodes between them" if choice.others else ""
        text = f"quantised {len(layers)} of {len(layers) + len(choice.left)}{between}"
        notes.insert(0, Note("done", "layers", text))
        return Outcome(model, True, tuple(notes), lambda: simulated(plan), {"layers": _rows(stored, choice)})

    def _measured(self, model: Model, choice: Choice, context: Context) -> Measured:
        names = tuple(dict.fromkeys(_scaled(choice)))
        if context.data is None:
            raise InvalidConfig(
                f"InsertQdq finds the ranges of {len(names)} activations on samples, and there is no data; expected "
                "Context(data=...), or --data on the command line; a few hundred samples without labels will do"
            )
        axes = {
            layer.node.inputs[0].name: 1 if layer.node.op == "Conv" else -1
            for layer in choice.layers.values()
            if self.correct_bias and layer.bias is not None
        }
        sweep = Sweep(names, axes, self.calibrator, self.activations, self.batch)
        return sweep.run(model, context.data, context, self.cache)

    def _stored(
        self, view: View, layer: Layer, scales: Mapping[str, Scale], choice: Choice, measured: Measured
    ) -> "_Stored":
        node = layer.node
        weight = view.constant(node.inputs[1])
        assert weight is not None
        axis = layer.axis if self.per_channel else None
        if layer.bias is None:
            return _Stored(weight, stored_weight(weight, axis, self.weight_bits), None)
        bias = view.constant(node.inputs[layer.bias])
        assert bias is not None
        flat = bias.reshape(-1).astype(np.float64)
        read = node.inputs[0].name
        step = scales[_scale_name(choice, read)].step
        codes = stored_weight(weight, axis, self.weight_bits, least_steps(flat, step))
        if read in measured.means:
            lost = np.moveaxis(weight.astype(np.float64) - codes.expand(), layer.axis, 0)
            if node.op == "Conv":
                lost = lost * seen_shares(view, node, lost.shape[2:])
            flat = flat + taken(lost, measured.means[read])
        return _Stored(weight, codes, stored_bias(flat, step, codes.steps))


class _Stored(NamedTuple):
    """A layer's weight as it was, its codes, and those of its bias."""

    before: Array
    weight: Stored
    bias: Stored | None


def _scale_name(choice: Choice, tensor: str) -> str:
    """Return whose scale a tensor has when it is rounded."""
    return choice.rounded.get(tensor, tensor)


def _scaled(choice: Choice) -> Iterable[str]:
    """Yield the tensors whose ranges are needed: what layers read, and what is rounded where it is made."""
    for layer in choice.layers.values():
        yield _scale_name(choice, layer.node.inputs[0].name)
    yield from choice.rounded.values()


def _plan(
    view: View,
    choice: Choice,
    scales: Mapping[str, Scale],
    stored: Mapping[int, _Stored],
    grid: Grid,
) -> Plan:
    operands: list[Operand] = []
    read: dict[str, list[tuple[int, int]]] = {}
    for number, node in enumerate(view.graph.nodes):
        if id(node) in choice.layers:
            layer, found = choice.layers[id(node)], stored[id(node)]
            operands.append(Operand(number, 1, found.weight))
            if layer.bias is not None and found.bias is not None:
                operands.append(Operand(number, layer.bias, found.bias))
            if node.inputs[0].name not in choice.rounded:
                read.setdefault(node.inputs[0].name, []).append((number, 0))
        elif id(node) in choice.others and choice.is_mixing(node):
            for slot, tensor in enumerate(node.inputs):
                values = view.constant(tensor)
                if values is not None:
                    operands.append(Operand(number, slot, stored_operand(values, grid)))
    roundings = [Rounding(name, scales[name], tuple(readers)) for name, readers in read.items()]
    roundings += [Rounding(name, scales[whose]) for name, whose in choice.rounded.items()]
    return Plan(operands, roundings)


def _as_planned(view: View, stored: Mapping[int, _Stored], plan: Plan) -> dict[int, _Stored]:
    """Return what layers hold with the codes that a plan has for their weights."""
    codes = {each.node: each.stored for each in plan.operands if each.slot == 1}
    numbers = {id(node): number for number, node in enumerate(view.graph.nodes)}
    return {key: each._replace(weight=codes[numbers[key]]) for key, each in stored.items()}


def _rows(stored: Mapping[int, _Stored], choice: Choice) -> list[Json]:
    rows: list[Json] = []
    for layer in choice.layers.values():
        found = stored[id(layer.node)]
        norm = float(np.linalg.norm(found.before))
        away = float(np.linalg.norm(found.before.astype(np.float64) - found.weight.expand()))
        rows.append(
            {
                "name": name_of(layer.node),
                "op": layer.node.op,
                "shape": [int(size) for size in found.before.shape],
                "bits": found.weight.bits,
                "scales": int(found.weight.steps.size),
                "relative_error": away / norm if norm else 0.0,
                "left": "",
            }
        )
    rows += [{"name": name, "left": why} for name, why in choice.left.items()]
    return rows


__all__ = ["InsertQdq"]
