"""Removing channels: groups, scores, a budget, compensation, the cut, and the reference it is proved against."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite import cost
from graphrewrite.data import collect
from graphrewrite.dims import ChannelGroup, Groups, Shrunk, groups, reference, shrink
from graphrewrite.dims.kinds import OWN_DIMS
from graphrewrite.dims.structure import Mask
from graphrewrite.errors import BudgetError, InvalidConfig, InvalidData, InvalidModel, UnsupportedOp
from graphrewrite.ir import Model, garbage
from graphrewrite.ir.edit import all_nodes
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.channels.adjust import (
    Adjusted,
    Consumer,
    Floats,
    add_biases,
    adjust,
    consumers,
    with_weights,
)
from graphrewrite.passes.channels.budgets import Budget, MacsBelow
from graphrewrite.passes.channels.constants import exact_constants
from graphrewrite.passes.channels.criteria.l2 import L2
from graphrewrite.passes.channels.evidence import Criterion, Evidence, Scores, gathered, needs_of
from graphrewrite.passes.channels.granularity import steps
from graphrewrite.passes.channels.latency import relative_latency
from graphrewrite.passes.channels.obstacles import held_back
from graphrewrite.passes.channels.ports import changeable, changes, told
from graphrewrite.passes.channels.problem import ChannelProblem
from graphrewrite.passes.channels.reconstruct import Reconstruction
from graphrewrite.passes.channels.reconstruct.mean import Mean
from graphrewrite.passes.channels.selection import Limits
from graphrewrite.passes.channels.skip import skipped
from graphrewrite.passes.channels.units import check_units, not_asked
from graphrewrite.passes.patterns import as_tuples
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs
from graphrewrite.pipeline.base import Json
from graphrewrite.pipeline.registry import passes

NOTHING = "nothing can be removed from this model: no channels lie between two layers that are followed"


@passes.register("remove_channels")
@dataclass(frozen=True)
class RemoveChannels:
    """Cut whole channels (heads, dims, hidden units ...) out of a model, everything coupled included.

    Args:
        criterion: what a unit is worth; groups are compared after dividing by their own mean.
        budget: how much may stay.
        multiple: kept lengths of weight axes are multiples of this (a group smaller than that stays whole).
        absorb: fold what a removed channel would have contributed into the bias of its readers: its mean on the
            context's data, or, without data, its value where it can be shown to be constant.
        reconstruct: predict removed channels from kept ones and fold that into the readers' weights; needs data and
            includes absorption.
        skip: patterns (`*` is any text) of tensors, nodes or groups to leave whole.
        may_change: patterns of graph inputs and outputs whose fixed lengths may shrink, such as cached keys and values;
            all others are a contract with the caller and hold back what is tied to them.
        units: kinds of groups that may shrink, of `graphrewrite.dims.kinds.KINDS`; empty for all. With "own_head_dim"
            among them heads lose dims of their own, equally many, where nothing else ties dims of different heads.
        scope: "global" takes units where they cost least for what they save; "uniform" the same share everywhere.
        floor: the least share of its units that a group keeps.

    The claim is equality with the original graph in which dead positions are masked wherever positions mix (see
    `graphrewrite.dims.reference`), with the same compensation applied.
    """

    criterion: Criterion = L2()
    budget: Budget = MacsBelow(0.5)
    multiple: int = 1
    absorb: bool = True
    reconstruct: Reconstruction | None = None
    skip: tuple[str, ...] = ()
    scope: str = "global"
    floor: float = 0.1
    units: tuple[str, ...] = ()
    may_change: tuple[str, ...] = ()

    claim: ClassVar[Claim] = SameAs(1e-4, "the input model with what was removed masked")

    def __post_init__(self) -> None:
        if isinstance(self.multiple, bool) or self.multiple < 1:
            raise InvalidConfig(
                f"RemoveChannels.multiple is {self.multiple!r}; expected a whole number of at least 1"
            )
        if self.scope not in ("global", "uniform"):
            raise InvalidConfig(f"RemoveChannels.scope is {self.scope!r}; expected 'global' or 'uniform'")
        if not 0 <= self.floor < 1:
            raise InvalidConfig(f"RemoveChannels.floor is {self.floor!r}; expected a share in [0, 1)")
        as_tuples(self, "skip", "units", "may_change")
        check_units(self.units)

    @garbage.paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Choose, compensate and cut."""
        ports, own_dims = changeable(model, self.may_change), OWN_DIMS in self.units
        found = groups(inlined(model), may_change=ports, own_dims=own_dims)
        plain = found.analysis.model
        table = cost.totals(plain, found.analysis.info)
        untouched, idle = skipped(found, self.skip)
        unasked, missing = not_asked(found, self.units)
        untouched.update((name, why) for name, why in unasked.items() if name not in untouched)
        needs = (need for group in found for need in needs_of(self.criterion, group))
        evidence = gathered(plain, needs, self.criterion, context)
        scores = [np.asarray(self.criterion.score(group, evidence), dtype=np.float64) for group in found]
        for group, score in zip(found, scores, strict=True):
            _check_scores(self.criterion, group, score)
        latest: dict[bytes, _Made] = {}  # a budget that counts parameters has already made the cut it chooses

        def cut_for(dead: Mask) -> _Made:
            key = dead.tobytes()
            if key not in latest:
                if latest:
                    latest.clear()
                    garbage.collect()  # a graph is full of cycles, and this one holds the weights that were cut
                latest[key] = self._cut(found, dead, evidence, context)
            return latest[key]

        others = table.params - found.params()  # negative where the analysis follows what is no weight
        problem = ChannelProblem(
            found,
            scores,
            Limits(steps(found, self.multiple, untouched.keys()), self.floor, frozenset(untouched)),
            self.scope,
            max(table.total("macs") - found.macs(), 0.0),
            others,
            lambda dead: relative_latency(plain, found, dead, context),
            lambda dead: cut_for(dead).cost.params - found.params(dead) - others,
        )
        notes = [Note("skipped", name, why) for name, why in {**untouched, **found.pinned}.items()]
        notes += [Note("skipped", pattern, "nothing it names could be cut anyway") for pattern in idle]
        notes += [Note("skipped", kind, "no group of this kind can shrink here") for kind in missing]
        notes += [
            Note(
                "skipped",
                op.partition(" (")[0],
                f"{_unfollowed(op)}: {len(nodes)} node(s) and what they touch stay whole",
            )
            for op, nodes in found.analysis.refused.items()
        ]
        before = _details(found, table)
        if not len(found):  # a pipeline of trees or of one linear model
            notes.insert(0, Note("skipped", "the whole model", NOTHING))
        try:
            dead = self.budget.choose(problem)
        except BudgetError as error:
            raise BudgetError(f"{error}{held_back(plain, found.analysis.may_change)}") from error
        if not dead.any():
            return Outcome(model, False, tuple(notes), details={**before, **_unchanged(before)})
        made = cut_for(dead)
        notes += [Note("skipped", n, f"not compensated: {why}") for n, why in made.adjusted.skipped.items()]
        notes.append(
            Note("done", "channels", f"removed {int(dead.sum())} of {len(dead)} units in {len(found)} groups")
        )
        notes += changes(made.cut.model, made.cut.ports)
        details = {**before, **_after(found, made, dead, scores)}
        return Outcome(made.cut.model, True, tuple(notes), made.reference, details, made.cut.ports)

    def _cut(self, found: Groups, dead: Mask, evidence: Evidence, context: Context) -> "_Made":
        labels = found.dead_labels(dead)
        adjusted = self._compensate(found, labels, evidence, context)
        analysis = with_weights(found.analysis, adjusted.patches)
        cut = shrink(analysis, labels)
        copies = add_biases(cut.model, dict(enumerate(cut.nodes)), adjusted.patches, cut.kept_of)
        _record_copies(cut, copies)

        def slow() -> Model:
            model, nodes = reference(analysis, labels)
            add_biases(model, dict(enumerate(nodes)), adjusted.patches, lambda axis: None)
            return model

        return _Made(cut, adjusted, cost.totals(cut.model), slow)

    def _compensate(self, found: Groups, labels: Mask, evidence: Evidence, context: Context) -> Adjusted:
        if self.reconstruct is not None and context.data is None:
            raise InvalidConfig(
                f"reconstruction by {type(self.reconstruct).__name__} needs calibration data; "
                "give it with --data, or Context(data=...) in Python"
            )
        way = self.reconstruct or (Mean() if self.absorb else None)
        if way is None:
            return Adjusted()
        if context.data is None:
            try:
                constants = exact_constants(found, labels, evidence, context)
            except (UnsupportedOp, InvalidData, InvalidModel) as error:
                return Adjusted(
                    skipped={"constant channels": f"the model cannot be run to find them: {error}"}
                )
            if constants is None:
                return Adjusted(skipped=consumers(found.analysis, labels)[1])
            known = constants
            return adjust(found.analysis, labels, lambda consumer, alive: (None, known(consumer, alive)))
        readers, skipped = consumers(found.analysis, labels)
        made = {(c.tensor, c.axis): way.statistic(c.axis)() for c in readers}
        if not made:
            return Adjusted(skipped=skipped)
        by_tensor: dict[str, list] = {}  # type: ignore[type-arg]
        for (tensor, _), accumulator in made.items():
            by_tensor.setdefault(tensor, []).append(accumulator)
        try:
            collect(
                found.analysis.model,
                context.data,
                by_tensor,
                seed=context.seed,
                progress=context.progress,
                threads=context.threads,
            )
        except UnsupportedOp as error:
            if self.reconstruct is not None:  # asked for by name: going on without it would be a silent no-op
                raise
            return Adjusted(skipped={"mean channels": f"the model cannot be run on the data: {error}"})

        def estimate(consumer: Consumer, alive: Mask) -> tuple[Floats | None, Floats]:
            transfer, constant = way.estimate(made[(consumer.tensor, consumer.axis)].result(), alive)
            if not (np.isfinite(constant).all() and (transfer is None or np.isfinite(transfer).all())):
                raise InvalidData(
                    f"on the data the tensor {consumer.tensor!r} holds numbers that are not finite, so nothing can be "
                    "predicted from it; expected samples without NaN and infinities; leave those out"
                )
            return transfer, constant

        return adjust(found.analysis, labels, estimate)


def _unfollowed(op: str) -> str:
    """Return why an operator is not followed: it has no rule, or the reason its rule gave in brackets."""
    return op.partition(" (")[2].removesuffix(")") or "no dimension rule"


class _Made(NamedTuple):
    """A cut model, how its readers were compensated, what it costs, and its slow reference."""

    cut: Shrunk
    adjusted: Adjusted
    cost: cost.Totals
    reference: Callable[[], Model]


def _record_copies(cut: Shrunk, copies: Mapping[str, str]) -> None:
    """Write down where biases come from that absorption took apart; forget the originals nobody reads any more."""
    for copy, name in copies.items():
        cut.copied_from[copy] = cut.copied_from.get(name, name)
        if name in cut.kept:
            cut.kept[copy] = cut.kept[name]
    if copies:
        there = {tensor.name for node in all_nodes(cut.model.graph) for tensor in node.inputs}
        for name in set(copies.values()) - there:
            cut.kept.pop(name, None)
            cut.copied_from.pop(name, None)


def _label(node: gs.Node) -> str:
    return str(node.name or node.outputs[0].name)


def _check_scores(criterion: Criterion, group: ChannelGroup, score: Scores) -> None:
    if score.shape != (group.units,) or not np.isfinite(score).all():
        raise InvalidConfig(
            f"the criterion {type(criterion).__name__} gave {score.shape} scores for the {group.units} of {group.name}"
            f"{'' if np.isfinite(score).all() else ', some of them not finite'}; expected one finite number per unit"
        )


def _details(found: Groups, table: cost.Totals) -> dict[str, Json]:
    return {
        "macs_before": table.per_sample("macs"),
        "params_before": table.total("params"),
        "pinned": {**found.pinned},
        "no_rule": {op: list(names) for op, names in found.analysis.refused.items()},
    }


def _unchanged(before: Mapping[str, Json]) -> dict[str, Json]:
    return {
        "macs_after": before["macs_before"],
        "params_after": before["params_before"],
        "kept": {},
        "copied_from": {},
        "ports": {},
        "groups": [],
        "compensated": [],
    }


def _after(found: Groups, made: _Made, dead: Mask, scores: Sequence[Scores]) -> dict[str, Json]:
    # A balanced grouped convolution keeps other slots in each group: its axis 1 is a list per group.
    kept: dict[str, Json] = {
        name: {str(axis): positions.tolist() for axis, positions in axes.items()}
        for name, axes in made.cut.kept.items()
    }
    rows: list[Json] = []
    for group, score in zip(found, scores, strict=True):
        gone = dead[group.unit_ids]
        rows.append(
            {
                "name": group.name,
                "kind": group.kind,
                "units": group.units,
                "kept": int((~gone).sum()),
                "macs_per_unit": group.macs_per_unit,
                "lowest_kept_score": float(score[~gone].min()),
                "highest_removed_score": float(score[gone].max()) if gone.any() else None,
            }
        )
    return {
        "macs_after": made.cost.per_sample("macs"),
        "params_after": made.cost.params,
        "kept": kept,
        "copied_from": {**made.cut.copied_from},
        "ports": told(made.cut.ports),
        "groups": rows,
        "compensated": [_label(found.analysis.nodes[p.consumer.node]) for p in made.adjusted.patches],
    }


__all__ = ["RemoveChannels"]
