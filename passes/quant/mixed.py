"""More bits for the layers that need them: what each costs by itself is measured, and the dearest are let off first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.match.view import View
from graphrewrite.passes.quant.grid import GRIDS
from graphrewrite.passes.quant.insert_qdq import InsertQdq
from graphrewrite.passes.quant.judge import Judge, Lost
from graphrewrite.passes.quant.ladder import Ladder, Rung, walk
from graphrewrite.passes.quant.measure import Measured
from graphrewrite.passes.quant.plan import Tier, name_of
from graphrewrite.passes.quant.write import Quantisers, write
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json

Trial = Callable[[Mapping[str, Tier]], Model]


@passes.register("mixed_precision")
@dataclass(frozen=True)
class MixedPrecision:
    """Quantise, and give layers more bits, dearest first, until the model loses no more than it may.

    What a layer costs is measured by quantising it alone: the share of noise in the outputs, once as `step` says, once
    each with 4 and 8 bits for weights where `step` has fewer, once with wide activations. From all layers as `step` has
    them, the one that gains most goes up first: to the next form that halves its noise at least, in the end to floats.
    Then each goes down again, the largest first, as far as the loss allows: no layer of the result has bits to spare.

    Args:
        step: what is done to the layers that keep few bits.
        loss: the most that may be lost: of accuracy where the samples have labels (0.01 is a point; the end of the 95 %
            interval that so many samples leave is to be no more), otherwise the share of noise in the outputs' energy
            (0.01 is 20 dB); infinite where only `largest` counts.
        largest: bytes that the weights of all layers may take; 0 for any number. Gains count by the byte then.
        samples: that the noise of single layers is measured on; what is lost is measured on all there are.

    The claim is that of `InsertQdq`.
    """

    step: InsertQdq = InsertQdq()
    loss: float = 0.01
    largest: int = 0
    samples: int = 32

    claim: ClassVar[Claim] = SameAs(1e-5, "the input model with every rounding written out in floats")

    def __post_init__(self) -> None:
        if self.loss < 0 or self.largest < 0 or (self.loss == inf and not self.largest):
            raise InvalidConfig(
                f"MixedPrecision.loss is {self.loss} and largest {self.largest}; expected neither below zero, and one "
                "of them finite and set; 0.01 of loss is a usual start"
            )
        if isinstance(self.samples, bool) or self.samples < 1:
            raise InvalidConfig(
                f"MixedPrecision.samples is {self.samples!r}; expected a whole number of at least 1"
            )

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Measure every layer alone, go up from the dearest, and write what holds the budget."""
        before = model.clone()
        planner = self.step.planner(View(before))
        if planner is None or not planner.choice.layers:
            return self.step.run(model, context)
        measured = self.step.measured(before, planner.everything(), planner, context)
        assert context.data is not None

        def trial(tiers: Mapping[str, Tier], whole: bool = False) -> Model:
            made = before.clone()
            planned = self.step.planner(View(made), tiers, whole)
            assert planned is not None
            plan = planned.plan(planned.codes(measured), measured)
            write(made, plan, Quantisers(GRIDS[self.step.activations]))
            return made

        sizes = {
            name_of(layer.node): int(before.weights[layer.node.inputs[1].name].size)
            for layer in planner.choice.layers.values()
        }
        everyone = self.step.planner(View(before), whole=True)
        assert everyone is not None
        names = [name_of(layer.node) for layer in everyone.choice.layers.values()]
        judge = Judge(before, context.data, context, self.step.batch)

        def alone(name: str, form: Tier) -> Model:
            others = {other: Tier(left="not the one that is measured") for other in names if other != name}
            return trial({**others, name: form}, True)

        ladders = self._ladders(sizes, judge, alone, context)
        states = walk(ladders, self.largest)
        found, lost = self._least(states, ladders, judge, trial)
        state = states[found]
        if lost.most <= self.loss < inf:
            state, lost = self._lowered(state, lost, ladders, judge, trial)
        outcome = self._written(model, state, ladders, measured, context)
        return self._told(outcome, ladders, state, lost)

    def _ladders(
        self, sizes: Mapping[str, int], judge: Judge, alone: Callable[[str, Tier], Model], context: Context
    ) -> list[Ladder]:
        forms = [Tier(), *(Tier(bits=bits) for bits in (4, 8) if bits > self.step.weight_bits)]
        if self.loss < inf:
            forms.append(Tier(bits=8, wide=True))
        found = []
        for number, (name, size) in enumerate(sizes.items()):
            noises = [judge.noise(alone(name, form), self.samples) for form in forms]
            rungs = [
                Rung(form, size * (form.bits or self.step.weight_bits) // 8, noise)
                for form, noise in zip(forms, noises, strict=True)
            ]
            why = f"by itself it costs {noises[0]:.1e} of the signal: the dearest are left"
            # Floats would take the bytes of several other layers' gains.
            exact = [Rung(Tier(left=why), 4 * size, 0.0)] if self.loss < inf or len(rungs) == 1 else []
            found.append(Ladder(name, [*rungs, *exact]))
            if context.progress is not None:
                context.progress("measuring layers", number + 1, len(sizes))
        return found

    def _least(
        self, states: Sequence[Mapping[str, int]], ladders: Sequence[Ladder], judge: Judge, trial: Trial
    ) -> tuple[int, Lost]:
        """Return the first state that loses no more than it may, or the last, and what it loses."""
        if self.loss == inf:
            return len(states) - 1, judge.lost(trial(tiers_of(ladders, states[-1])))
        seen: dict[int, Lost] = {}

        def lost(state: int) -> Lost:
            if state not in seen:
                seen[state] = judge.lost(trial(tiers_of(ladders, states[state])))
            return seen[state]

        low, high, last = -1, 0, len(states) - 1
        while high < last and lost(high).most > self.loss:
            low, high = high, min(max(1, 2 * high), last)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if lost(middle).most <= self.loss else (middle, high)
        return high, lost(high)

    def _lowered(
        self, state: Mapping[str, int], lost: Lost, ladders: Sequence[Ladder], judge: Judge, trial: Trial
    ) -> tuple[dict[str, int], Lost]:
        """Let layers go down again, the largest first, as long as no more is lost than may be."""
        now = dict(state)
        for ladder in sorted(ladders, key=lambda ladder: -ladder.rungs[0].size):
            while now[ladder.name]:
                tried = {**now, ladder.name: now[ladder.name] - 1}
                found = judge.lost(trial(tiers_of(ladders, tried)))
                if found.most > self.loss:
                    break
                now, lost = tried, found
        return now, lost

    def _written(
        self,
        model: Model,
        state: Mapping[str, int],
        ladders: Sequence[Ladder],
        measured: Measured,
        context: Context,
    ) -> Outcome:
        planner = self.step.planner(View(model), tiers_of(ladders, state))
        assert planner is not None
        return self.step.written(model, planner, measured, context)

    def _told(
        self, outcome: Outcome, ladders: Sequence[Ladder], state: Mapping[str, int], lost: Lost
    ) -> Outcome:
        by_name = {ladder.name: ladder for ladder in ladders}
        rows: list[Json] = []
        layers = outcome.details["layers"]
        assert isinstance(layers, list)
        for row in layers:
            assert isinstance(row, dict)
            ladder = by_name.get(str(row["name"]))
            rows.append(row if ladder is None else {**row, "sensitivity": ladder.rungs[0].noise})
        at_most = f", at most {lost.most:.2g}" if lost.most > lost.share else ""
        up = sum(rung > 0 for rung in state.values())
        text = f"{up} of {len(state)} layers have more bits; lost: {lost.share:.2g}{at_most}"
        notes = (*outcome.notes, Note("done", "mixed precision", text))
        if lost.most > self.loss:
            room = (
                f"{self.largest} bytes leave no room for more bits"
                if self.largest
                else "no form has more bits"
            )
            why = f"{lost.share:.2g} is lost{at_most}, more than {self.loss:.2g}, and {room}"
            notes = (*notes, Note("warning", "mixed precision", why))
        details = {**outcome.details, "layers": rows, "lost": lost.share, "lost_at_most": lost.most}
        return Outcome(outcome.model, outcome.changed, notes, outcome.reference, details)


def tiers_of(ladders: Sequence[Ladder], state: Mapping[str, int]) -> dict[str, Tier]:
    """Return the form of every layer in a state: rungs by name."""
    return {ladder.name: ladder.rungs[state[ladder.name]].tier for ladder in ladders}


__all__ = ["MixedPrecision"]
