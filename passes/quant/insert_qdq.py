"""The pass that rounds weights and activations to 8 bits, between quantisers that integer kernels take up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.match.view import View
from graphrewrite.passes.patterns import as_tuples, check_weights_named, matching
from graphrewrite.passes.quant.calibrators import Calibrator
from graphrewrite.passes.quant.calibrators.min_max import MinMaxRange
from graphrewrite.passes.quant.grid import GRIDS
from graphrewrite.passes.quant.judge import Judge
from graphrewrite.passes.quant.kernels import why_float
from graphrewrite.passes.quant.measure import Measured, Sweep, Wanted
from graphrewrite.passes.quant.plan import Choice, Chooser, Tier, name_of
from graphrewrite.passes.quant.rounders import Rounder, Task
from graphrewrite.passes.quant.rounders.nearest import Nearest
from graphrewrite.passes.quant.store import WIDE, Codes, Forms, Planner
from graphrewrite.passes.quant.target import load_target
from graphrewrite.passes.quant.worth import load_times
from graphrewrite.passes.quant.write import Plan, Quantisers, Simulated, write
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json

_OLDEST_OPSET = 13  # quantisers take a scale per channel from here on
_JUDGED = 64  # samples that tell whether corrected biases are a gain
_SLOW = (
    "onnxruntime has no kernels for processors that compute with 16-bit activations: layers run in floats there, "
    "weights are dequantised on every run, and the model is slower than before; `wide` avoids the latter"
)


@passes.register("insert_qdq")
@dataclass(frozen=True)
class InsertQdq:
    """Round weights to int8 and activations to 8 bits, with QuantizeLinear and DequantizeLinear around every layer.

    Args:
        calibrator: how the span of an activation is found on the context's data.
        activations: their codes: "uint8" and "int8" fit both ends of the span, "uint8_symmetric" and "int8_symmetric"
            give zero the middle code, and leave a Relu to be computed. "uint16", "int16" and "int16_symmetric" are for
            accelerators: onnxruntime's kernels for processors compute in floats between such quantisers.
        per_channel: a step for each output of a weight; otherwise one for all.
        weight_bits: 2 to 8; weights of 7 bits cannot saturate the 16-bit sums of processors without VNNI, those of 6 or
            less are filed packed and become int8 when the model is loaded.
        even_levels: of 6 bits or less, use all 2 ** weight_bits levels, half a step to either side of zero; otherwise
            they are one less, 3 of 2 bits, and zero is one of them.
        correct_bias: add to biases what the rounding of weights takes from the mean of each output, if that brings the
            outputs nearer to those before.
        only: patterns (`*` is any text) of the layers to quantise; empty for all.
        skip: patterns of layers to leave in float.
        wide: patterns of layers that need more than 8 bits of what they read and give: they read 16 bits and give
            floats. Their weights are codes in the file, and floats once the model is loaded.
        attention: products of two activations too, which are left in floats otherwise: they become 1.1 to 1.5 times as
            fast, and what they read is rounded.
        times: measured times by which what is slower in integers stays in floats: "vnni" for processors that have
            such instructions, or a file of `tests/bench/integer_times.py`; empty to quantise all there is a kernel of.
        target: for which machine, where it is not onnxruntime on a processor: "all" rounds whatever has numbers on both
            sides (transposed convolutions, Softmax, norms, products of activations, ...), for accelerators that
            compute in integers throughout; or a file like passes/quant/tables/all.toml. Slower on processors.
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
    even_levels: bool = False
    correct_bias: bool = True
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()
    attention: bool = False
    times: str = ""
    target: str = ""
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
        if self.even_levels and self.weight_bits > 6:
            raise InvalidConfig(
                f"InsertQdq.even_levels does not go with {self.weight_bits} bits; expected at most 6; leave it out, "
                "with more bits it is no gain"
            )
        if isinstance(self.batch, bool) or self.batch < 1:
            raise InvalidConfig(f"InsertQdq.batch is {self.batch!r}; expected a whole number of at least 1")
        as_tuples(self, "only", "skip", "wide")

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Choose, calibrate and write; say of every layer what became of it."""
        planner = self.planner(View(model))
        if planner is None:
            why = f"its operator set is {model.opset}; scales per channel need {_OLDEST_OPSET}: convert it first"
            return Outcome(model, False, (Note("skipped", "the whole model", why),))
        if not planner.choice.nodes():
            return self._unchanged(model, planner.choice)
        measured = self.measured(model, planner.wanted(), planner, context)
        return self.written(model, planner, measured, context)

    def planner(
        self, view: View, tiers: Mapping[str, Tier] | None = None, whole: bool = False
    ) -> Planner | None:
        """Choose what computes in integers, None where the operator set is too old for it.

        `tiers` says of layers by name how much of them is rounded; `whole` takes in layers that save no time.

        Raises:
            InvalidConfig: a pattern names no layer, or nobody knows the times or the target.
        """
        if view.model.opset < _OLDEST_OPSET:
            return None

        def tier(name: str) -> Tier:
            is_wide = any(matching(pattern, [name]) for pattern in self.wide)
            return (tiers or {}).get(name, Tier(wide=is_wide))

        ends_at_zero = not GRIDS[self.activations].symmetric
        chooser = Chooser(
            view,
            self.only,
            self.skip,
            ends_at_zero,
            tier=tier,
            attention=self.attention,
            whole=whole,
            times=load_times(self.times) if self.times else None,
            target=load_target(self.target) if self.target else None,
        )
        choice = chooser.choose()
        named = [name_of(node) for node in choice.nodes()]
        named += [name_of(node) for node in view.graph.nodes if id(node) in choice.steady]
        check_weights_named((*self.only, *self.skip, *self.wide), [*named, *choice.left])
        forms = Forms(
            self.activations, self.per_channel, self.weight_bits, self.correct_bias, self.even_levels
        )
        return Planner(view, choice, forms)

    def measured(
        self, model: Model, wanted: Sequence[Wanted], planner: Planner, context: Context
    ) -> Measured:
        """Look on the context's data for the spans that are wanted, and for what else a planner needs.

        Raises:
            InvalidConfig: there is none.
        """
        if context.data is None:
            raise InvalidConfig(
                f"InsertQdq finds the ranges of {len(wanted)} activations on samples, and there is no data; expected "
                "Context(data=...), or --data on the command line; a few hundred samples without labels will do"
            )
        sweep = Sweep(tuple(wanted), planner.means(), planner.readers(), self.calibrator, self.batch)
        return sweep.run(model, context.data, context, self.cache)

    def written(self, model: Model, planner: Planner, measured: Measured, context: Context) -> Outcome:
        """Carry out on a model what was planned for it, with what was measured."""
        grid, choice = GRIDS[self.activations], planner.choice
        if not choice.nodes():
            return self._unchanged(model, choice)
        before = model.clone()
        assert context.data is not None
        judge = Judge(before, context.data, context, self.batch)
        stored = self._codes(before, planner, measured, judge)
        between = _between(planner.view, choice)

        def simulated(plan: Plan) -> Model:
            model = before.clone()
            write(model, plan, Simulated(grid))
            return model

        nearest = planner.plan(stored, measured)
        task = Task(before, nearest, simulated, context.data, context, self.batch, self.correct_bias)
        plan = self.rounder.round(task)
        stored = _as_planned(planner.view, stored, plan)
        write(model, plan, Quantisers(grid))
        rows = _rows(stored, choice, self.activations)
        notes = _notes(choice)
        if grid.bits > 8:
            notes.append(Note("warning", "activations", _SLOW))
        details: dict[str, Json] = {"layers": rows, "between": between}
        return Outcome(model, True, tuple(notes), lambda: simulated(plan), details)

    def _codes(
        self, before: Model, planner: Planner, measured: Measured, judge: Judge
    ) -> Mapping[int, Codes]:
        """Return codes with corrected biases or with biases as they were, whichever bring the outputs nearer."""

        def noise(codes: Mapping[int, Codes]) -> float:
            model = before.clone()
            write(model, planner.plan(codes, measured), Quantisers(GRIDS[self.activations]))
            return judge.noise(model, _JUDGED)

        found = planner.codes(measured)
        if not planner.means():
            return found
        plain = planner._replace(forms=planner.forms._replace(correct_bias=False))
        return min((found, plain.codes(measured)), key=noise)

    def _unchanged(self, model: Model, choice: Choice) -> Outcome:
        notes = [Note("skipped", name, why) for name, why in choice.left.items()]
        if not notes:
            notes.append(Note("skipped", "the whole model", "it has no layer with a constant weight"))
        return Outcome(model, False, tuple(notes), details={"layers": _rows({}, choice, self.activations)})


def _notes(choice: Choice) -> list[Note]:
    done = len(choice.nodes())
    between = f", {len(choice.others)} nodes between them" if choice.others else ""
    text = f"quantised {done} of {done + len(choice.left)}{between}"
    left = (Note("skipped", name, why) for name, why in choice.left.items())
    return [Note("done", "layers", text), *left]


def _as_planned(view: View, stored: Mapping[int, Codes], plan: Plan) -> dict[int, Codes]:
    """Return what layers hold with the codes that a plan has for their weights."""
    codes = {each.node: each.stored for each in plan.operands if each.slot == 1}
    numbers = {id(node): number for number, node in enumerate(view.graph.nodes)}
    return {key: each._replace(weight=codes[numbers[key]]) for key, each in stored.items()}


def _rows(stored: Mapping[int, Codes], choice: Choice, activations: str) -> list[Json]:
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
                "levels": (1 << found.weight.bits) - (found.weight.apart == 1),
                "activations": activations if not layer.tier.wide else WIDE,
                "scales": int(found.weight.steps.size),
                "relative_error": away / norm if norm else 0.0,
                "left": "",
            }
        )
    for node in choice.products.values():
        rows.append({"name": name_of(node), "op": node.op, "activations": activations, "left": ""})
    rows += [{"name": name, "left": why} for name, why in choice.left.items()]
    return rows


def _between(view: View, choice: Choice) -> list[Json]:
    """Return how many of each operator between layers compute in integers and in floats, and why the latter."""
    layers = {name_of(node) for node in choice.nodes()} | choice.left.keys()
    others = [
        node
        for node in view.nodes()
        if name_of(node) not in layers and view.dtype(node.outputs[0]) == np.float32
    ]
    all_of = Counter(node.op for node in others)
    # A Relu that the rounding behind it does is no operator of floats either; the sum before it is rounded there.
    integers = Counter(
        node.op for node in others if id(node) in choice.others or node.outputs[0].name in choice.rounded
    )
    return [
        {
            "op": op,
            "integers": integers[op],
            "floats": count - integers[op],
            "why": why_float(op) if count > integers[op] else "",
        }
        for op, count in sorted(all_of.items())
    ]


__all__ = ["InsertQdq"]
