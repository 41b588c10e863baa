"""L2 norm: a channel is worth the Euclidean length of its weights."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.dims import ChannelGroup
from graphrewrite.passes.channels.criteria import Evidence, criteria
from graphrewrite.passes.channels.evidence import Scores


@criteria.register("l2")
@dataclass(frozen=True)
class L2:
    """Root of the sum of squares over the filters that make a unit and the slices that read it."""

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        """Return [units]."""
        return group.reduce(
            evidence.producer_weights, lambda w: np.sqrt((w * w).sum(axis=1)), roles=("producer", "consumer")
        )
