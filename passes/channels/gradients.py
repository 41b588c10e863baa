"""Weight times gradient by unit: what a first-order expansion of the loss says a unit contributes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np

from graphrewrite.dims import ChannelGroup, Member
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array
from graphrewrite.passes.channels.criteria.l1 import L1
from graphrewrite.passes.channels.evidence import Evidence, GradientNeed, Scores


class ByUnit:
    """Sums products of weights and gradients by unit, over the members given and then over steps.

    `each` is applied to every product and `whole` to the sum of a unit, [units], of one step.
    """

    def __init__(
        self, members: Sequence[Member], each: Callable[[Array], Array], whole: Callable[[Scores], Scores]
    ) -> None:
        self._members = members
        self._each = each
        self._whole = whole
        self._total: Scores | None = None
        self._steps = 0

    def update(self, products: Mapping[str, Array]) -> None:
        """Take in one step; weights without a gradient are passed over."""
        self._steps += 1
        parts = [
            self._sums(member, products[member.tensor])
            for member in self._members
            if member.tensor in products
        ]
        if parts:
            step = self._whole(np.sum(parts, axis=0))
            self._total = step if self._total is None else self._total + step

    def _sums(self, member: Member, array: Array) -> Scores:
        others = tuple(number for number in range(array.ndim) if number != member.axis)
        positions = self._each(array).sum(axis=others, dtype=np.float64)
        return np.asarray(positions[member.index].sum(axis=1))

    def result(self) -> Scores | None:
        """Return the mean over the steps, [units]; None when no gradient reached any of the weights."""
        return None if self._total is None else self._total / self._steps


def need(
    group: ChannelGroup,
    key: str,
    members: Sequence[Member],
    each: Callable[[Array], Array],
    whole: Callable[[Scores], Scores],
    loss: Literal["outputs", "labels"],
    batch: int,
) -> tuple[GradientNeed, ...]:
    """Ask for the products of these members; the statistic is a `ByUnit.result()` under the group's name."""
    weights = tuple(dict.fromkeys(member.tensor for member in members))
    return (GradientNeed(group.name, key, weights, partial(ByUnit, members, each, whole), loss, batch),)


def check_loss(name: str, loss: str) -> None:
    """Raise InvalidConfig unless this is a loss that gradients can be taken of."""
    if loss not in ("outputs", "labels"):
        raise InvalidConfig(
            f"{name}.loss is {loss!r}; expected 'outputs' (how far they move) or 'labels' (their cross-entropy)"
        )


def score(group: ChannelGroup, evidence: Evidence, key: str) -> Scores:
    """Return what `need` collected, [units]; a group whose weights have no gradient is scored by L1."""
    found = evidence.statistic(group.name, key)
    if found is None:
        return L1().score(group, evidence)
    assert isinstance(found, np.ndarray)
    return found
