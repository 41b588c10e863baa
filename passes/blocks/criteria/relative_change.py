"""Relative change: a block is worth as much as it adds, measured by the stream it is added to."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.passes.blocks.contribution import contribution_needs, contribution_of
from graphrewrite.passes.blocks.criteria import Block, Evidence, Need, criteria


@criteria.register("relative_change")
@dataclass(frozen=True)
class RelativeChange:
    """Root of the energy a branch adds over the energy of the stream it is added to: |f(x)| / |x| over all samples.

    Needs calibration data.
    """

    def needs(self, block: Block) -> tuple[Need, ...]:
        """Ask for the contribution of the branch."""
        return contribution_needs(block)

    def score(self, block: Block, evidence: Evidence) -> float:
        """Return a ratio; a branch on a stream of zeros counts by its own length."""
        found = contribution_of(block, evidence)
        return float(np.sqrt(found.branch / (found.stream or 1.0)))
