"""Activation variance: a channel that never changes can be replaced by a constant."""

from dataclasses import dataclass

from graphrewrite.dims import ChannelGroup
from graphrewrite.passes.channels.criteria import Evidence, Need, criteria
from graphrewrite.passes.channels.evidence import Scores
from graphrewrite.passes.channels.taps import moments_needs, over_moments


@criteria.register("activation_variance")
@dataclass(frozen=True)
class ActivationVariance:
    """Variance of a unit's activation where it is read, over samples and positions (Polyak and Wolf, 2015, "InBound").

    Goes well with constant absorption: what is left of a dropped channel is its mean. Needs calibration data. A group
    that no contraction reads is scored by L1.
    """

    def needs(self, group: ChannelGroup) -> tuple[Need, ...]:
        """Ask for the moments of the activations that read the group."""
        return moments_needs(group)

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        """Return [units]."""
        return over_moments(group, evidence, lambda spread: spread.variance)
