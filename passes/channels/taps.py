"""Statistics of the activations that carry a group's channels into the layers that read them."""

from collections.abc import Callable
from functools import partial

import numpy as np

from graphrewrite.data.accumulators import Moments, Spread
from graphrewrite.dims import ChannelGroup
from graphrewrite.passes.channels.evidence import Evidence, Need, Scores


def moments_needs(group: ChannelGroup) -> tuple[Need, ...]:
    """Ask for mean and variance of every activation that reads the group."""
    return tuple(Need(tap.tensor, f"moments/{tap.axis}", partial(Moments, tap.axis)) for tap in group.taps)


def over_taps(group: ChannelGroup, evidence: Evidence, measure: Callable[[Spread], Scores]) -> Scores:
    """Return the mean of a statistic over a group's activations, each divided by its own mean, [units]."""
    parts = []
    for tap in group.taps:
        spread = evidence.statistic(tap.tensor, f"moments/{tap.axis}")
        assert isinstance(spread, Spread)
        values = np.asarray(measure(spread), dtype=np.float64)[tap.index].mean(axis=1)
        parts.append(values / (values.mean() or 1.0))
    if not parts:
        from graphrewrite.passes.channels.criteria.l1 import L1

        return L1().score(group, evidence)
    return np.asarray(np.mean(parts, axis=0))
