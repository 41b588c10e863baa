"""Mean activation: a channel that stays near zero on the data does little."""

from dataclasses import dataclass

from graphrewrite.dims import ChannelGroup
from graphrewrite.passes.channels.criteria import Evidence, Need, criteria
from graphrewrite.passes.channels.evidence import Scores
from graphrewrite.passes.channels.taps import moments_needs, over_moments


@criteria.register("activation_mean")
@dataclass(frozen=True)
class ActivationMean:
    """|mean| of a unit's activation where it is read, over samples and positions (after Polyak and Wolf, 2015).

    Needs calibration data. A group that no contraction reads is scored by L1.
    """

    def needs(self, group: ChannelGroup) -> tuple[Need, ...]:
        """Ask for the moments of the activations that read the group."""
        return moments_needs(group)

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        """Return [units]."""
        return over_moments(group, evidence, lambda spread: abs(spread.mean))
