"""Statistics of the activations that carry a group's channels into the layers that read them."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from graphrewrite.data import Accumulator
from graphrewrite.data.accumulators import Moments, Spread
from graphrewrite.dims import ChannelGroup
from graphrewrite.dims.groups import Tap
from graphrewrite.passes.channels.evidence import Evidence, Need, Scores


def tap_needs(taps: Sequence[Tap], key: str, make: Callable[[int], Accumulator]) -> tuple[Need, ...]:
    """Ask for a statistic of every one of these activations; `make(axis)` builds what collects it."""
    return tuple(Need(tap.tensor, f"{key}/{tap.axis}", partial(make, tap.axis)) for tap in taps)


def over_taps(
    group: ChannelGroup,
    taps: Sequence[Tap],
    evidence: Evidence,
    key: str,
    measure: Callable[[object], Scores],
) -> Scores:
    """Return the mean of what `tap_needs` asked for, each activation divided by its own mean, [units].

    `measure` makes [channels] of a statistic. A group without such an activation is scored by L1.
    """
    parts = []
    for tap in taps:
        found = measure(evidence.statistic(tap.tensor, f"{key}/{tap.axis}"))
        values = np.asarray(found, dtype=np.float64)[tap.index].mean(axis=1)
        parts.append(values / (values.mean() or 1.0))
    if not parts:
        from graphrewrite.passes.channels.criteria.l1 import L1

        return L1().score(group, evidence)
    return np.asarray(np.mean(parts, axis=0))


def moments_needs(group: ChannelGroup) -> tuple[Need, ...]:
    """Ask for mean and variance of every activation that reads the group."""
    return tap_needs(group.taps, "moments", Moments)


def over_moments(group: ChannelGroup, evidence: Evidence, measure: Callable[[Spread], Scores]) -> Scores:
    """Return the mean over a group's activations of what `measure` makes of their moments, [units]."""

    def of(statistic: object) -> Scores:
        assert isinstance(statistic, Spread)
        return measure(statistic)

    return over_taps(group, group.taps, evidence, "moments", of)
