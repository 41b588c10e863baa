"""Feature-map rank: a channel whose maps have low rank carries little information."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.data.accumulators import Rank, Spectra
from graphrewrite.dims import ChannelGroup
from graphrewrite.dims.groups import Tap
from graphrewrite.passes.channels.criteria import Evidence, Need, criteria
from graphrewrite.passes.channels.evidence import Scores
from graphrewrite.passes.channels.taps import over_taps, tap_needs

_KEY = "rank"


@criteria.register("hrank")
@dataclass(frozen=True)
class HRank:
    """Mean rank over the samples of the map that a unit's readers see, behind norm and rectifier (Lin et al., 2020).

    Rank is at most the shorter side of a map, so small maps tie: among channels of equal mean rank the mean nuclear
    norm decides, which can never outweigh a rank. Maps that are rows (tokens, flattened features) all have rank 1 or
    0, and only the norm is left. Several readers of a unit count alike. A few hundred samples without labels
    are enough. A group that no contraction reads is scored by L1.
    """

    def needs(self, group: ChannelGroup) -> tuple[Need, ...]:
        """Ask for the singular values of every map of the activations that read the group."""
        return tap_needs(_maps(group), _KEY, Rank)

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        """Return [units]."""
        return over_taps(group, _maps(group), evidence, _KEY, ranked)


def ranked(statistic: object) -> Scores:
    """Return mean ranks, [channels], with ties broken by nuclear norms.

    Means of `samples` ranks that differ do so by 1 / samples at least; the norm adds at most half of that.
    """
    assert isinstance(statistic, Spectra)
    largest = float(statistic.nuclear.max(initial=0.0)) or 1.0
    return np.asarray(statistic.rank + statistic.nuclear / largest * (0.5 / statistic.samples))


def tie_share(statistic: object) -> float:
    """Return the share of channels whose mean rank another channel has too: how often the norm had to decide."""
    assert isinstance(statistic, Spectra)
    _, inverse, counts = np.unique(statistic.rank, return_inverse=True, return_counts=True)
    return float((counts[inverse] > 1).mean()) if len(statistic.rank) else 0.0


def _maps(group: ChannelGroup) -> tuple[Tap, ...]:
    """Return the activations that have samples on axis 0: one map per sample needs the axis for itself."""
    return tuple(tap for tap in group.taps if tap.axis != 0)
