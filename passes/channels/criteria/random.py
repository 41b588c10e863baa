"""Random scores: the floor every criterion has to beat."""

import zlib
from dataclasses import dataclass

import numpy as np

from graphrewrite.dims import ChannelGroup
from graphrewrite.passes.channels.criteria import Evidence, criteria
from graphrewrite.passes.channels.evidence import Scores


@criteria.register("random")
@dataclass(frozen=True)
class Random:
    """Uniform numbers in [0.5, 1.5) from the context's seed and the group's name: other groups do not matter."""

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        """Return [units]."""
        rng = np.random.default_rng([evidence.seed, zlib.crc32(group.name.encode())])
        return 0.5 + rng.random(group.units)
