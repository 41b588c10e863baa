"""Channels and low rank removed together, so that neither is overdone where the other is cheaper."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from graphrewrite import cost
from graphrewrite.dims import groups
from graphrewrite.errors import BudgetError, InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.factor.collaborative_rates import Slope, allocate, sensitivity
from graphrewrite.passes.factor.collaborative_units import Reduced, final, reduced
from graphrewrite.passes.factor.collaborative_write import Plan, written
from graphrewrite.passes.factor.factorize import expanded
from graphrewrite.passes.factor.factors import Floats
from graphrewrite.passes.factor.layers import Layer, Left, layers
from graphrewrite.passes.patterns import as_tuples, check_weights_named, why_left
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json


@passes.register("collaborative")
@dataclass(frozen=True)
class Collaborative:
    """Remove input channels and singular components of convolutions from one pool (Li et al. 2021, "CC").

    A unit costs the sum of (gradient * change of the weight)^2, now and on average with one further unit. Curves fitted
    to what removal costs each layer say how much each gives.

    Args:
        ratio: the share of the model's multiply-accumulates that goes.
        units: what may go: "channel", "component" or both.
        gamma: weight of the look-ahead beside what is lost now.
        step: the share of a layer's units that goes at once.
        most: the largest share any layer gives.
        rates: "sensitivity" by the fitted curves, "uniform" the same share of every layer.
        slope: where layers meet: at "equal" slopes of their curves, as published, or at equal slopes for a
            multiply-accumulate ("macs"), which makes the sum of the losses smallest.
        loss: of what gradients are: "labels" (their mean over the data, as published) or "outputs", which needs no
            labels (the root of the mean square over batches of a random projection, see `taylor`).
        ends: take the first convolution too.
        only: patterns (`*` is any text) of the convolutions to take; empty for all.
        skip: patterns of convolutions to leave alone.

    Needs data. A channel leaves the convolution that makes it where no other layer reads it, and with it more than is
    counted; elsewhere the reader picks out those it goes on reading. The claim is equality with the model whose weights
    are zero at these channels and of that rank.
    """

    ratio: float = 0.5
    units: tuple[str, ...] = ("channel", "component")
    gamma: float = 0.9
    step: float = 0.01
    most: float = 0.95
    rates: Literal["sensitivity", "uniform"] = "sensitivity"
    slope: Slope = "equal"
    loss: Literal["labels", "outputs"] = "labels"
    ends: bool = False
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    asks: ClassVar[tuple[str, ...]] = ("data", "torch")
    claim: ClassVar[Claim] = SameAs(
        1e-4, "the input model with weights zero at the channels and of the rank chosen"
    )

    def __post_init__(self) -> None:
        as_tuples(self, "units", "only", "skip")
        for name, low, high in (("ratio", 0, 1), ("gamma", 0, np.inf), ("step", 0, 1), ("most", 0, 1)):
            value = getattr(self, name)
            if not low <= value < high:
                raise InvalidConfig(
                    f"Collaborative.{name} is {value}; expected a number in [{low}, {high:g})"
                )
        if not self.units or not set(self.units) <= {"channel", "component"}:
            raise InvalidConfig(
                f"Collaborative.units is {self.units}; expected 'channel', 'component' or both; correct it"
            )
        for name, known in (
            ("rates", ("sensitivity", "uniform")),
            ("slope", ("equal", "macs")),
            ("loss", ("labels", "outputs")),
        ):
            if getattr(self, name) not in known:
                raise InvalidConfig(
                    f"Collaborative.{name} is {getattr(self, name)!r}; expected {' or '.join(known)}; correct it"
                )

    def run(self, model: Model, context: Context) -> Outcome:
        """Measure, choose and write.

        Raises:
            InvalidConfig: the context has no data, or a pattern names no layer.
            InvalidData: the data does not fit the model, or has no labels where they are asked for.
            BudgetError: the layers cannot give so much.
            UnsupportedOp: an operator has no torch form.
        """
        if context.data is None:
            raise InvalidConfig(
                "gradients need samples; expected data in the context; give it with --data, or Context(data=...)"
            )
        found = groups(inlined(model))
        plain = found.analysis.model
        table = cost.of(plain, found.analysis.info)
        chosen, notes = self._choose(plain)
        macs = {row.name: row.macs / table.batch for row in table.nodes}
        sized = [layer for layer in chosen if macs.get(layer.name, 0) > 0]
        if not sized:
            return Outcome(model, False, tuple(notes), details={"layers": []})
        gradients = self._gradients(plain, sized, context)
        states = [_state(layer, macs[layer.name], gradients) for layer in sized]
        goal = self._rates(states, self.ratio * table.total("macs") / table.batch, context)
        plans, rows = [], []
        for number, (layer, state, rate) in enumerate(zip(sized, states, goal, strict=True)):
            if context.progress is not None:
                context.progress("removing", number, len(sized))
            after = reduced(state, (1 - rate) * state.macs, self.units, self.gamma, self.step)
            if after is state:
                notes.append(Note("skipped", layer.name, "its share of what goes is nothing"))
                continue
            plans.append(Plan(layer, after.alive, after.rank if after.cut else None, final(after)))
            rows.append(_row(layer, after, rate))
        if not plans:
            return Outcome(model, False, tuple(notes), details={"layers": []})
        stands_for = {plan.layer.place: (_flat(plan.weight), plan.layer.kernel) for plan in plans}
        before = plain.clone()
        result, lost = written(found, plans)
        told: list[Json] = [{**row, "left_producer": lost[str(row["name"])]} for row in rows]
        notes.append(Note("done", "layers", f"reduced {len(plans)} of {len(sized)} convolutions"))
        return Outcome(result, True, tuple(notes), lambda: expanded(before, stands_for), {"layers": told})

    def _choose(self, model: Model) -> tuple[list[Layer], list[Note]]:
        found = list(layers(model))
        check_weights_named((*self.only, *self.skip), [each.name for each in found])
        notes, chosen = [], []
        first = next((each.place for each in found if isinstance(each, Layer) and each.kernel), -1)
        for each in found:
            why = why_left(each.name, self.only, self.skip, "reduce")
            if isinstance(each, Left):
                why = each.why
            elif not each.kernel:
                why = "a matrix product; collaborative reduces convolutions, svd factors products"
            elif why is None and each.graph is not model.graph:
                why = "it stands in the body of a loop or condition"
            elif why is None and each.place == first and not self.ends:
                why = "the first convolution stays (see ends)"
            if why is not None:
                notes.append(Note("skipped", each.name, why))
            elif isinstance(each, Layer):
                chosen.append(each)
        return chosen, notes

    def _gradients(self, model: Model, chosen: list[Layer], context: Context) -> Mapping[str, Floats]:
        from graphrewrite.bridge.gradients import gradients

        assert context.data is not None
        power = 1 if self.loss == "labels" else 2
        sums: dict[str, Floats] = {}
        seen = 0
        names = {str(layer.node.inputs[1].name) for layer in chosen}
        batches = gradients(
            model, context.data, names, self.loss, seed=context.seed, progress=context.progress
        )
        for each, samples in batches:
            seen += samples
            for name, gradient in each.items():
                part = samples * np.asarray(gradient, np.float64) ** power
                sums[name] = sums.get(name, np.zeros(gradient.shape)) + part
        return {name: (total / seen) ** (1 / power) for name, total in sums.items()}

    def _rates(self, states: list[Reduced], macs: float, context: Context) -> list[float]:
        most = sum(state.macs for state in states) * self.most
        if macs > most:
            raise BudgetError(
                f"{macs:,.0f} multiply-accumulates were to go, and the convolutions can give {most:,.0f}; expected a "
                f"ratio of at most {self.ratio * most / macs:.3f}; ask for less, or allow `ends`"
            )
        if self.rates == "uniform":
            return [macs / sum(state.macs for state in states)] * len(states)
        curves = []
        for number, state in enumerate(states):
            if context.progress is not None:
                context.progress("sensitivity", number, len(states))
            curves.append(sensitivity(state, self.units))
        return allocate(curves, macs, self.most, self.slope)


def _state(layer: Layer, macs: float, gradients: Mapping[str, Floats]) -> Reduced:
    taps = int(np.prod(layer.kernel))
    weight = layer.weight.T.reshape(layer.weight.shape[1], -1, taps)
    gradient = gradients.get(str(layer.node.inputs[1].name), np.zeros(weight.shape)).reshape(weight.shape)
    return Reduced.start(weight, gradient, round(macs / weight.size))


def _flat(weight: Floats) -> Floats:
    """Return [outputs, channels, taps] as [channels x taps, outputs]."""
    return weight.reshape(len(weight), -1).T


def _row(layer: Layer, after: Reduced, asked: float) -> dict[str, Json]:
    return {
        "name": layer.name,
        "channels_before": after.sizes.channels,
        "channels_after": int(after.alive.sum()),
        "rank_before": after.sizes.rank,
        "rank_after": after.rank if after.cut else None,
        "asked": asked,
        "rate": after.rate,
        "macs_before": after.sizes.macs(after.sizes.channels, None),
        "macs_after": after.macs,
        "lost": replace(after, present=final(after)).lost,
    }


__all__ = ["Collaborative"]
