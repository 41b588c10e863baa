"""FilterSketch: new, fewer filters that keep the second moments of the old ones, as a start for training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from graphrewrite import cost
from graphrewrite.dims import ChannelGroup, Groups, Member, groups, reference, shrink
from graphrewrite.dims.structure import Mask
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Model
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.channels.budgets import Budget, Ratio
from graphrewrite.passes.channels.frequent_directions import frequent_directions
from graphrewrite.passes.channels.latency import relative_latency
from graphrewrite.passes.channels.problem import ChannelProblem
from graphrewrite.passes.channels.selection import Limits
from graphrewrite.passes.channels.skip import skipped
from graphrewrite.passes.patterns import as_tuples
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs
from graphrewrite.pipeline.base import Json
from graphrewrite.pipeline.registry import passes

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
# What a new batch norm holds, by the input it comes in at: gain, shift, mean, variance.
_FRESH = {1: 1.0, 2: 0.0, 3: 0.0, 4: 1.0}


@passes.register("filter_sketch")
@dataclass(frozen=True)
class FilterSketch:
    """Narrow the inside of blocks by Frequent Directions sketches of their weights (Lin et al., 2020, FilterSketch).

    Args:
        budget: how much may stay; every group that is narrowed keeps the same share of its channels.
        normalise: divide each sketched weight by its norm, as in the published runs.
        skip: patterns (`*` is any text) of tensors, nodes or groups to leave whole.
        floor: the least share of its channels that a group keeps.

    The layer that makes a group's channels gets a sketch of its filters, the layer that reads them one of the slices
    that read a channel each; batch norms between start anew, biases at 0. A group is narrowed when one layer makes it,
    one reads it and nothing else belongs to its channels; what is added to a residual stream keeps its width. Filter j
    of the one layer has nothing to do with slice j of the other, so the model knows nothing until it is trained: this
    is a start for `FineTune` or `Distill`, which needs no data. The claim is about the cut: it equals the model with
    sketches and zeros in the old shapes.
    """

    budget: Budget = Ratio(0.6)
    normalise: bool = True
    skip: tuple[str, ...] = ()
    floor: float = 0.1

    claim: ClassVar[Claim] = SameAs(1e-4, "the input model with sketched filters and what was removed masked")

    def __post_init__(self) -> None:
        if not 0 <= self.floor < 1:
            raise InvalidConfig(f"FilterSketch.floor is {self.floor!r}; expected a share in [0, 1)")
        as_tuples(self, "skip")

    def run(self, model: Model, context: Context) -> Outcome:
        """Choose how many channels stay, sketch, and cut."""
        found = groups(inlined(model))
        plain, table = found.analysis.model, cost.totals(found.analysis.model, found.analysis.info)
        untouched = skipped(found, self.skip).groups
        untouched |= {g.name: why for g in found if g.name not in untouched and (why := _why_not(found, g))}
        problem = ChannelProblem(
            found,
            [
                np.arange(group.units, 0.0, -1) for group in found
            ],  # which places stay does not matter: the first
            Limits(floor=self.floor, untouched=frozenset(untouched)),
            "uniform",
            max(table.total("macs") - found.macs(), 0.0),
            table.params - found.params(),
            lambda dead: relative_latency(plain, found, dead, context),
            lambda dead: 0.0,
        )
        notes = [Note("skipped", name, why) for name, why in {**untouched, **found.pinned}.items()]
        before: dict[str, Json] = {"macs_before": table.per_sample("macs"), "params_before": table.params}
        dead = self.budget.choose(problem)
        narrowed = [group for group in found if dead[group.unit_ids].any()]
        if not narrowed:
            return Outcome(model, False, tuple(notes), details={**before, "groups": []})
        analysis = replace(found.analysis, model=self._sketched(plain, found, narrowed, dead))
        labels = found.dead_labels(dead)
        cut = shrink(analysis, labels).model
        after = cost.totals(cut)
        rows: list[Json] = [
            {"name": g.name, "units": g.units, "kept": int((~dead[g.unit_ids]).sum())} for g in narrowed
        ]
        notes.append(Note("done", "channels", f"sketched {len(narrowed)} of {len(found)} groups"))
        details = {
            **before,
            "macs_after": after.per_sample("macs"),
            "params_after": after.params,
            "groups": rows,
        }
        return Outcome(cut, True, tuple(notes), lambda: reference(analysis, labels)[0], details)

    def _sketched(self, model: Model, found: Groups, narrowed: Sequence[ChannelGroup], dead: Mask) -> Model:
        """Return a copy in the old shapes with sketches at the places that stay and zeros elsewhere."""
        copy = model.clone()
        for group in narrowed:
            alive = ~dead[group.unit_ids]
            for member in group.members:
                weight = np.asarray(copy.weights[member.tensor])
                copy.weights[member.tensor] = (
                    np.full_like(weight, _fresh(found, member))
                    if member.role == "vector"
                    else self._sketch(weight, member, alive)
                )
        return copy

    def _sketch(self, weight: Array, member: Member, alive: Mask) -> Array:
        turned = np.moveaxis(weight, member.axis, 0)
        rows = np.zeros((len(turned), turned[0].size))
        kept = frequent_directions(turned.reshape(rows.shape).astype(np.float64), int(alive.sum()))
        norm = float(np.linalg.norm(kept)) if self.normalise else 1.0
        rows[member.index[alive, 0]] = kept / (norm or 1.0)
        return np.ascontiguousarray(np.moveaxis(rows.reshape(turned.shape), 0, member.axis)).astype(
            weight.dtype
        )


def _why_not(found: Groups, group: ChannelGroup) -> str:
    """Return why a group keeps its filters; "" where it can be narrowed."""
    if group.kind not in ("channels", "mlp"):
        return f"its units are of kind {group.kind}; only channels inside a block are sketched"
    weights = found.analysis.model.weights
    roles = [member.role for member in group.members]
    if roles.count("producer") != 1 or roles.count("consumer") != 1:
        return "more than one layer makes its channels, or reads them"
    for member in group.members:
        if member.tensor not in weights or not np.issubdtype(weights[member.tensor].dtype, np.floating):
            return f"{member.tensor} is not a weight of floating numbers"
        if weights[member.tensor].shape[member.axis] != group.units:
            return f"it is only a part of the channels of {member.tensor}"
        (node, _), *others = member.use.sites
        if others:
            return f"{member.tensor} is read by several nodes"
        op = found.analysis.nodes[node].op
        if member.role == "vector":
            if _fresh(found, member) is None:
                return f"{member.tensor} of {op} belongs to its channels and cannot start anew"
        elif op not in _LAYERS or found.analysis.nodes[node].attrs.get("group", 1) != 1:
            return f"{member.tensor} belongs to a {op} whose filters cannot be exchanged"
    return ""


def _fresh(found: Groups, member: Member) -> float | None:
    """Return what a vector starts anew with: those of a batch norm, and biases; None for others."""
    ((node, slot),) = member.use.sites
    op = found.analysis.nodes[node].op
    if op == "BatchNormalization":
        return _FRESH.get(slot)
    return 0.0 if op == "Add" or (op in _LAYERS and slot == 2) else None


__all__ = ["FilterSketch"]
