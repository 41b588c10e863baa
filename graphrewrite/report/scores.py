"""The scores a criterion gave, for the picture that shows what was kept and what went."""

from collections.abc import Mapping

import numpy as np

from graphrewrite.data import DataSource
from graphrewrite.dims import ChannelGroup, groups
from graphrewrite.ir import Model
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.channels.evidence import Criterion, gathered, needs_of
from graphrewrite.pipeline import Context
from graphrewrite.report.record import Scores

Kept = Mapping[str, Mapping[str, list[int]]]


def scores_of(
    model: Model,
    criterion: Criterion,
    kept: Kept,
    data: DataSource | None = None,
    seed: int = 0,
    threads: int = 0,
) -> Scores:
    """Return for each group the score of every unit, and which units were kept.

    `model` is the one channels were removed from, `kept` what that removal reports: weight -> axis -> kept positions.
    Statistics of activations, where the criterion wants any, are collected again.
    """
    whole = groups(inlined(model))
    found, plain = list(whole), whole.analysis.model
    needs = (need for group in found for need in needs_of(criterion, group))
    evidence = gathered(plain, needs, criterion, Context(data, seed, threads))
    return {
        group.name: (tuple(map(float, criterion.score(group, evidence))), _alive(group, kept))
        for group in found
    }


def _alive(group: ChannelGroup, kept: Kept) -> tuple[int, ...]:
    """Return the units whose positions were all kept, read off the first weight of the group that was cut."""
    for member in group.members:
        positions = kept.get(member.tensor, {}).get(str(member.axis))
        if positions is not None:
            return tuple(int(unit) for unit in np.flatnonzero(np.isin(member.index, positions).all(axis=1)))
    return tuple(range(group.units))
