"""L1 norm: a block is worth what its last layers can add, by absolute weights."""

from dataclasses import dataclass

from graphrewrite.passes.blocks.criteria import Block, Evidence, criteria
from graphrewrite.passes.blocks.size import expected_size


@criteria.register("l1")
@dataclass(frozen=True)
class L1:
    """Mean over outputs of the sum of |w| of the layers that end the branch, and of everything behind them.

    If every input of the last layers were one and nothing cancelled, the branch would add this much.
    Needs no data; blind to how large the stream has grown.
    """

    def score(self, block: Block, evidence: Evidence) -> float:
        """Return the size."""
        return expected_size(block, evidence.model, power=1)
