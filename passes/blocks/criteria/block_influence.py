"""Block influence: a block that hardly turns its stream can go."""

from dataclasses import dataclass

from graphrewrite.passes.blocks.contribution import contribution_needs, contribution_of
from graphrewrite.passes.blocks.criteria import Block, Evidence, Need, criteria


@criteria.register("block_influence")
@dataclass(frozen=True)
class BlockInfluence:
    """One minus the mean cosine between the stream before and after a block (Men et al., 2024, "ShortGPT", equation 1).

    Taken per position along the channels, or per sample where channels are not a single axis. Needs calibration data.
    """

    def needs(self, block: Block) -> tuple[Need, ...]:
        """Ask for the contribution of the branch."""
        return contribution_needs(block)

    def score(self, block: Block, evidence: Evidence) -> float:
        """Return a number in [0, 2]."""
        return max(1.0 - contribution_of(block, evidence).cosine, 0.0)
