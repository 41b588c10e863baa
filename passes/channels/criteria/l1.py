"""L1 norm: a channel is worth the sum of its absolute weights."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.dims import ChannelGroup
from graphrewrite.passes.channels.criteria import Evidence, criteria
from graphrewrite.passes.channels.evidence import Scores


@criteria.register("l1")
@dataclass(frozen=True)
class L1:
    """Sum of |w| over the filters that make a unit and the slices that read it (Li et al., 2017, for the filters).

    Each weight tensor is divided by its own mean first, so that a unit's score is about 1 on average.
    """

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        """Return [units]."""
        return group.reduce(
            evidence.producer_weights,
            lambda w: np.abs(w).sum(axis=1, dtype=np.float64),
            roles=("producer", "consumer"),
        )
