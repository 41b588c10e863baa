"""What a criterion may look at: weights by unit, and statistics of activations and gradients over the data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.data import Accumulator, collect
from graphrewrite.dims import ChannelGroup, Member
from graphrewrite.dims.shrink import weight_array
from graphrewrite.errors import InvalidConfig, MissingExtra
from graphrewrite.ir import Array, Model
from graphrewrite.ir.edit import all_nodes
from graphrewrite.pipeline import Context

Scores = npt.NDArray[np.float64]
Statistics: TypeAlias = dict[tuple[str | tuple[str, str], str], object]

# Weights up to this many bytes are kept by position, so that groups which share one do not turn it again.
_CACHED_BELOW = 16_000_000


@dataclass(frozen=True)
class Need:
    """A statistic of a tensor, or a pair, that a criterion wants: `make()` builds its accumulator, `key` names it."""

    tensor: str | tuple[str, str]
    key: str
    make: Callable[[], Accumulator]


class Products(Protocol):
    """Takes weight times gradient of the loss, step by step; `result()` returns what they amount to."""

    def update(self, products: Mapping[str, Array]) -> None:
        """Take in one step: weight name -> products in its shape; a weight that is not trained is not there."""
        ...

    def result(self) -> object:
        """Return the statistic over all steps."""
        ...


@dataclass(frozen=True)
class GradientNeed:
    """A statistic of the products of `weights` and their gradients; `tensor` (a group's name) and `key` name it.

    `loss` says of what, as in `graphrewrite.bridge.gradients`; `batch` samples go through it in one step.
    """

    tensor: str
    key: str
    weights: tuple[str, ...]
    make: Callable[[], Products]
    loss: Literal["outputs", "labels"] = "outputs"
    batch: int = 32


AnyNeed: TypeAlias = Need | GradientNeed


@runtime_checkable
class Criterion(Protocol):
    """A rule for what a unit is worth. May also define `needs(group) -> tuple[AnyNeed, ...]`; the default is none."""

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


def gathered(model: Model, needs: Iterable[AnyNeed], criterion: object, context: Context) -> Evidence:
    """Collect what a criterion needs, each statistic once: one sweep for those of tensors, one for gradients.

    Raises:
        InvalidConfig: it needs statistics and the context has no data.
        MissingExtra: it needs gradients, and torch is not installed.
        UnsupportedOp: it needs gradients, and an operator has no torch form.
    """
    asked = {(need.tensor, need.key): need for need in needs}
    if not asked:
        return Evidence(model, context.seed)
    if context.data is None:
        what = "activations" if any(isinstance(need, Need) for need in asked.values()) else "gradients"
        raise InvalidConfig(
            f"the criterion {type(criterion).__name__} looks at {what}; expected calibration data; "
            "give it with --data, or Context(data=...) in Python"
        )
    found = _of_tensors([need for need in asked.values() if isinstance(need, Need)], model, context)
    found |= _of_gradients(
        [need for need in asked.values() if isinstance(need, GradientNeed)], model, context
    )
    return Evidence(model, context.seed, found)


def _of_tensors(needs: Sequence[Need], model: Model, context: Context) -> Statistics:
    statistics = {(need.tensor, need.key): need.make() for need in needs}
    by_tensor: dict[str | tuple[str, str], list[Accumulator]] = {}
    for (tensor, _), accumulator in statistics.items():
        by_tensor.setdefault(tensor, []).append(accumulator)
    if by_tensor:
        assert context.data is not None
        collect(
            model,
            context.data,
            by_tensor,
            seed=context.seed,
            progress=context.progress,
            threads=context.threads,
        )
    return {key: accumulator.result() for key, accumulator in statistics.items()}


def _of_gradients(needs: Sequence[GradientNeed], model: Model, context: Context) -> Statistics:
    found: Statistics = {}
    for loss, batch in sorted({(need.loss, need.batch) for need in needs}):
        try:
            from graphrewrite.bridge.gradients import products
        except ImportError as error:
            raise MissingExtra(
                f"gradients need torch, which cannot be imported ({error}); it comes with an extra; "
                'install it with pip install "graphrewrite[train]", or choose a criterion without gradients'
            ) from error
        assert context.data is not None
        alike = [need for need in needs if (need.loss, need.batch) == (loss, batch)]
        made = {(need.tensor, need.key): need.make() for need in alike}
        weights = {weight for need in alike for weight in need.weights}
        for step in products(model, context.data, weights, loss, batch, context.seed, context.progress):
            for accumulator in made.values():
                accumulator.update(step)
        found |= {key: accumulator.result() for key, accumulator in made.items()}
    return found


def needs_of(criterion: Criterion, group: ChannelGroup) -> tuple[AnyNeed, ...]:
    """Return what a criterion wants to know about a group; most want nothing beyond weights."""
    asked = getattr(criterion, "needs", None)
    return tuple(asked(group)) if asked is not None else ()
