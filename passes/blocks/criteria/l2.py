"""L2 norm: a block is worth the length of what its last layers add."""

from dataclasses import dataclass

from graphrewrite.passes.blocks.criteria import Block, Evidence, criteria
from graphrewrite.passes.blocks.size import expected_size


@criteria.register("l2")
@dataclass(frozen=True)
class L2:
    """Root mean square of what a branch adds if the inputs of its last layers are independent with unit variance.

    That is the root of the sum of squared weights per output, followed through scales, norms and biases behind it.
    Needs no data; blind to how large the stream has grown.
    """

    def score(self, block: Block, evidence: Evidence) -> float:
        """Return the size."""
        return expected_size(block, evidence.model, power=2)
