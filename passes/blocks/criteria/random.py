"""Random scores: the floor every criterion has to beat."""

import zlib
from dataclasses import dataclass

import numpy as np

from graphrewrite.passes.blocks.criteria import Block, Evidence, criteria


@criteria.register("random")
@dataclass(frozen=True)
class Random:
    """A uniform number in [0.5, 1.5) from the context's seed and the block's name: other blocks do not matter."""

    def score(self, block: Block, evidence: Evidence) -> float:
        """Return the number."""
        rng = np.random.default_rng([evidence.seed, zlib.crc32(block.name.encode())])
        return float(0.5 + rng.random())
