"""Geometric median: the filters nearest to all others are the ones that can be replaced."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.dims import ChannelGroup
from graphrewrite.passes.channels.criteria import Evidence, criteria
from graphrewrite.passes.channels.evidence import Scores


@criteria.register("geometric_median")
@dataclass(frozen=True)
class GeometricMedian:
    """Sum of the distances from a unit's filter to all others of the group (He et al., 2019, FPGM)."""

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        """Return [units]."""
        return group.reduce(evidence.producer_weights, total_distance)


def total_distance(filters: Scores) -> Scores:
    """Return, for each row of [units, numbers], the sum of Euclidean distances to all rows."""
    filters = filters.astype(np.float64)  # differences of near-equal squares need the digits
    square = (filters * filters).sum(axis=1)
    inner = filters @ filters.T
    squared = np.maximum(square[:, None] + square[None, :] - 2 * inner, 0)
    np.fill_diagonal(squared, 0)  # rounding leaves crumbs there
    return np.asarray(np.sqrt(squared).sum(axis=1))
