"""What a criterion may look at: weights by unit, and statistics of activations collected in one sweep."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.data import Accumulator, collect
from graphrewrite.dims import ChannelGroup, Member
from graphrewrite.dims.shrink import weight_array
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Model
from graphrewrite.ir.edit import all_nodes
from graphrewrite.pipeline import Context

Scores = npt.NDArray[np.float64]

# Weights up to this many bytes are kept by position, so that groups which share one do not turn it again.
_CACHED_BELOW = 16_000_000


@dataclass(frozen=True)
class Need:
    """A statistic of a tensor, or a pair, that a criterion wants: `make()` builds its accumulator, `key` names it."""

    tensor: str | tuple[str, str]
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
    statistics: Mapping[tuple[str | tuple[str, str], str], object] = field(default_factory=dict)
    _moved: dict[tuple[str, int], Array] = field(default_factory=dict)

    @cached_property
    def nodes(self) -> list[gs.Node]:
        """The nodes that a weight's sites speak of, those inside bodies last."""
        return all_nodes(self.model.graph)

    def producer_weights(self, member: Member) -> Scores:
        """Return a member's weights by unit, [units, numbers of the unit], float32 or wider; not to be written to."""
        table = self._by_position(member)
        units, each = member.index.shape
        if each > 1 or units < len(table) or (member.index[:, 0] != np.arange(units)).any():
            table = table[member.index].reshape(units, -1)
        wide = table if table.dtype in (np.float32, np.float64) else table.astype(np.float32)
        return cast(Scores, wide)

    def _by_position(self, member: Member) -> Array:
        """Return a weight as [positions of the member's axis, the rest]."""
        key = (member.tensor, member.axis)
        if key in self._moved:
            return self._moved[key]
        array = weight_array(self.model, member.tensor)
        others = (number for number in range(array.ndim) if number != member.axis)
        table = array.transpose(member.axis, *others).reshape(array.shape[member.axis], -1)
        # Several groups share a weight where branches were joined; of a large one no second copy is kept for that.
        if table.nbytes <= _CACHED_BELOW:
            self._moved[key] = table
        return table

    def statistic(self, tensor: str | tuple[str, str], key: str) -> object:
        """Return the result of the accumulator that `Need(tensor, key, ...)` asked for."""
        try:
            return self.statistics[(tensor, key)]
        except KeyError:
            raise InvalidConfig(
                f"the statistic {key!r} of {tensor!r} was not collected; a criterion must list it in needs(group)"
            ) from None


def gathered(model: Model, needs: Iterable[Need], criterion: object, context: Context) -> Evidence:
    """Collect what a criterion needs, each statistic once and all in one sweep.

    Raises:
        InvalidConfig: it needs statistics and the context has no data.
    """
    made = {(need.tensor, need.key): need.make for need in needs}
    if not made:
        return Evidence(model, context.seed)
    if context.data is None:
        raise InvalidConfig(
            f"the criterion {type(criterion).__name__} looks at activations; expected calibration data; "
            "give it with --data, or Context(data=...) in Python"
        )
    statistics = {key: make() for key, make in made.items()}
    by_tensor: dict[str | tuple[str, str], list[Accumulator]] = {}
    for (tensor, _), accumulator in statistics.items():
        by_tensor.setdefault(tensor, []).append(accumulator)
    collect(
        model, context.data, by_tensor, seed=context.seed, progress=context.progress, threads=context.threads
    )
    return Evidence(
        model, context.seed, {key: accumulator.result() for key, accumulator in statistics.items()}
    )


def needs_of(criterion: Criterion, group: ChannelGroup) -> tuple[Need, ...]:
    """Return what a criterion wants to know about a group; most want nothing beyond weights."""
    asked = getattr(criterion, "needs", None)
    return tuple(asked(group)) if asked is not None else ()
