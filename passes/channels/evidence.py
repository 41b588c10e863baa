"""What a criterion may look at: weights by unit, and statistics of activations collected in one sweep."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from graphrewrite.dims import ChannelGroup, Member
from graphrewrite.dims.shrink import weight_array
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Model

Scores = npt.NDArray[np.float64]


class Accumulator(Protocol):
    """A streaming statistic of one tensor (see `graphrewrite.data`)."""

    def update(self, array: Array) -> None:
        """Take one batch of values."""
        ...

    def result(self) -> object:
        """Return the statistic of everything taken so far."""
        ...


@dataclass(frozen=True)
class Need:
    """A statistic of a tensor that a criterion wants: `make()` builds its accumulator, `key` names it."""

    tensor: str
    key: str
    make: Callable[[], Accumulator]


@runtime_checkable
class Criterion(Protocol):
    """A rule for what a unit is worth. May also define `needs(group) -> tuple[Need, ...]`; the default is none."""

    def score(self, group: ChannelGroup, evidence: "Evidence") -> Scores:
        """Return one number per unit, [units]; larger = keep. Only the order and the ratios inside a group matter."""
        ...


@dataclass
class Evidence:
    """Weights and collected statistics of one model."""

    model: Model
    seed: int = 0
    statistics: Mapping[tuple[str, str], object] = field(default_factory=dict)
    _moved: dict[tuple[str, int], Array] = field(default_factory=dict)

    def producer_weights(self, member: Member) -> Scores:
        """Return a member's weights by unit, float64 [units, numbers of the unit]."""
        key = (member.tensor, member.axis)
        if key not in self._moved:
            array = weight_array(self.model, member.tensor)
            self._moved[key] = np.moveaxis(array, member.axis, 0).reshape(array.shape[member.axis], -1)
        table = self._moved[key]
        return np.asarray(table[member.index].reshape(len(member.index), -1), dtype=np.float64)

    def statistic(self, tensor: str, key: str) -> object:
        """Return the result of the accumulator that `Need(tensor, key, ...)` asked for."""
        try:
            return self.statistics[(tensor, key)]
        except KeyError:
            raise InvalidConfig(
                f"the statistic {key!r} of {tensor!r} was not collected; a criterion must list it in needs(group)"
            ) from None


def needs_of(criterion: Criterion, group: ChannelGroup) -> tuple[Need, ...]:
    """Return what a criterion wants to know about a group; most want nothing beyond weights."""
    asked = getattr(criterion, "needs", None)
    return tuple(asked(group)) if asked is not None else ()
