"""Removing residual blocks: where they are, what they are worth, a budget, and the cut with its reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphrewrite import cost
from graphrewrite.dims.sweep import analyse
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.blocks.block import Blocks
from graphrewrite.passes.blocks.criteria import BlockCriterion, needs_of
from graphrewrite.passes.blocks.criteria.l2 import L2
from graphrewrite.passes.blocks.cut import masked, without
from graphrewrite.passes.blocks.find import find
from graphrewrite.passes.blocks.problem import BlockProblem, Scores
from graphrewrite.passes.blocks.skip import skipped
from graphrewrite.passes.channels.budgets import Budget, Mask, Ratio
from graphrewrite.passes.channels.evidence import Evidence, gathered
from graphrewrite.passes.channels.latency import ratio_of
from graphrewrite.passes.patterns import as_tuples
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json


@passes.register("remove_blocks")
@dataclass(frozen=True)
class RemoveBlocks:
    """Leave whole blocks out: branches added to what they are computed from, and branches of concatenations.

    Args:
        criterion: what a block is worth.
        budget: how much may stay; a ratio counts blocks, in every stream on its own.
        skip: patterns (`*` is any text) of blocks, nodes or tensors; a block that holds any of them stays.
        floor: the least share of its blocks that a stream keeps, rounded up; 0 lets a stream lose them all.

    A *stream* is a run of sums of the same channels and sizes (a stage of a ResNet, all of a transformer), or the
    concatenations that carry the same channels (an Inception module, a dense block). Weights are not adjusted. The
    claim is equality with the original graph in which every branch left out is zero at its sum, and the channels of
    one left out of a concatenation are masked wherever channels mix.
    """

    criterion: BlockCriterion = L2()
    budget: Budget = Ratio(0.75)
    skip: tuple[str, ...] = ()
    floor: float = 0.1

    claim: ClassVar[Claim] = SameAs(1e-5, "the input model with what was removed masked")

    def __post_init__(self) -> None:
        if isinstance(self.floor, bool) or not 0 <= self.floor < 1:
            raise InvalidConfig(
                f"RemoveBlocks.floor is {self.floor!r}; expected a share in [0, 1), such as 0.1"
            )
        as_tuples(self, "skip")

    def run(self, model: Model, context: Context) -> Outcome:
        """Find, score, choose and leave out."""
        analysis = analyse(inlined(model))
        plain = analysis.model
        table = cost.of(plain, analysis.info)
        found = find(analysis, table)
        untouched, idle = skipped(found, self.skip)
        needs = (need for block in found for need in needs_of(self.criterion, block))
        evidence = gathered(plain, needs, self.criterion, context)
        scores = self._scores(found, evidence)

        def cut(dead: Mask) -> Model:
            return without(found, [found.blocks[n] for n in problem.outermost(dead)])

        problem = BlockProblem(
            found,
            scores,
            self.floor,
            frozenset(untouched),
            lambda dead: ratio_of(plain, cut(dead), analysis.info, context),
        )
        notes = [Note("skipped", found.blocks[n].name, why) for n, why in untouched.items()]
        notes += [Note("skipped", pattern, "nothing it names lies in a block") for pattern in idle]
        notes += [Note("skipped", name, why) for name, why in found.left.items()]
        if not len(found):
            notes.append(Note("skipped", "blocks", "no branch of a sum or concatenation can be left out"))
        dead = self.budget.choose(problem)
        if not dead.any():
            return Outcome(model, False, tuple(notes), details=_details(found, scores, dead, table, table))
        smaller = cut(dead)
        after = cost.of(smaller)
        outermost = [found.blocks[n] for n in problem.outermost(dead)]
        notes += [
            Note("skipped", block.name, f"left out, but others still read {', '.join(block.shared)} of it")
            for block in outermost
            if block.shared
        ]
        notes.append(Note("done", "blocks", f"left out {int(dead.sum())} of {len(found)} blocks"))
        return Outcome(
            smaller,
            True,
            tuple(notes),
            lambda: masked(found, outermost),
            _details(found, scores, dead, table, after),
        )

    def _scores(self, found: Blocks, evidence: Evidence) -> Scores:
        scores = np.array([self.criterion.score(block, evidence) for block in found], dtype=np.float64)
        for block, score in zip(found, scores, strict=True):
            if not np.isfinite(score) or score < 0:
                raise InvalidConfig(
                    f"the criterion {type(self.criterion).__name__} gave {score} for the block {block.name!r}; "
                    "expected a finite number that is not negative; check the criterion and the data"
                )
        return scores


def _details(
    found: Blocks, scores: Sequence[float] | Scores, dead: Mask, before: cost.CostTable, after: cost.CostTable
) -> Mapping[str, Json]:
    rows: list[Json] = [
        {
            "name": block.name,
            "kind": block.kind,
            "branch": block.branch,
            "trunk": block.trunk,
            "stream": block.stream,
            "inside": None if block.inside is None else found.blocks[block.inside].name,
            "nodes": len(block.nodes),
            "macs": round(block.macs / max(before.batch, 1)),
            "params": round(block.params),
            "score": float(score),
            "removed": bool(gone),
        }
        for block, score, gone in zip(found, scores, dead, strict=True)
    ]
    return {
        "macs_before": before.per_sample("macs"),
        "macs_after": after.per_sample("macs"),
        "params_before": before.params,
        "params_after": after.params,
        "blocks": rows,
    }


__all__ = ["RemoveBlocks"]
