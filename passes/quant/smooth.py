"""Moving what is hard to round from activations into weights, where channels have scales of their own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, cast

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.data import MinMax, collect
from graphrewrite.data.accumulators import Accumulator, Extremes
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.match import Draft, is_default_domain
from graphrewrite.passes.quant.factors import Found, Reader, reader_of, takers
from graphrewrite.passes.quant.grid import GRIDS, Floats, Span
from graphrewrite.passes.quant.plan import name_of
from graphrewrite.passes.quant.rows import Draw, Values
from graphrewrite.pipeline import Claim, Context, Note, Outcome, Same, passes
from graphrewrite.pipeline.base import Json

_INDIFFERENT = frozenset({"Shape", "Size"})  # they read no numbers
_SMALLEST = (
    1e-5  # of a largest value; factors of channels that are next to nothing would leave float32's range
)


@passes.register("smooth_quant")
@dataclass(frozen=True)
class SmoothQuant:
    """Divide each channel that layers read by a factor and multiply it into their weights (Xiao et al. 2023).

    A tensor has one scale for all channels when it is rounded, and a few large channels leave few codes to the others.
    The factor of channel j is max |x_j|^alpha / max |w_j|^(1 - alpha) (equation 4), the second largest being that of
    all its readers. What makes the tensor gives the divided one: gain and offset of a norm, a product with a constant
    or a sum, or the weights of the layer before, which Relu, pooling and one side of a product may follow. The readers
    are Conv, ConvTranspose, Gemm and MatMul with constant weights.

    Args:
        alphas: how much of the range moves, from 0 to 1. Of several, and of leaving things alone, each tensor gets the
            one whose products, rounded to 8 bits on the samples, are nearest to the unrounded.
        inserts: multiply where nothing can take factors in, which costs a pass over the tensor each run.
        rows: places of each tensor that a choice between several is judged on.
        batch: samples that run together.

    Outputs stay the same: nothing is rounded here.
    """

    alphas: tuple[float, ...] = (0.5,)
    inserts: bool = False
    rows: int = 2048
    batch: int = 16

    claim: ClassVar[Claim] = Same(1e-4)
    asks: ClassVar[tuple[str, ...]] = ("data",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "alphas", tuple(self.alphas))
        if not self.alphas or not all(0 <= alpha <= 1 for alpha in self.alphas):
            raise InvalidConfig(
                f"SmoothQuant.alphas is {self.alphas!r}; expected one number from 0 to 1, or several to choose from"
            )
        for name in ("rows", "batch"):
            value = getattr(self, name)
            if isinstance(value, bool) or value < 1:
                raise InvalidConfig(f"SmoothQuant.{name} is {value!r}; expected a whole number of at least 1")

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Look at the samples once, then move every factor there is a place for."""
        draft = Draft(model)
        sites, left = _sites(draft)
        notes = [Note("skipped", name, why) for name, why in left.items()]
        if not sites:
            return Outcome(model, False, tuple(notes) or (_nothing("no layer reads what can be divided"),))
        if context.data is None:
            raise InvalidConfig(
                f"SmoothQuant looks at the channels of {len(sites)} tensors on samples, and there is no data; expected "
                "Context(data=...), or --data on the command line; a few hundred samples without labels will do"
            )
        seen = self._seen(model, sites, context)
        done: list[Json] = []
        for site in sites:
            taken = takers(draft, site.tensor, site.axis, site.channels)
            if isinstance(taken, str) and not self.inserts:
                notes.append(Note("skipped", site.tensor.name, taken))
                continue
            alpha = self._best(draft, site, seen[site.tensor.name])
            if alpha is None:
                notes.append(Note("skipped", site.tensor.name, "no alpha gives less error than none"))
                continue
            factors = _factors(draft, site, seen[site.tensor.name].extremes, alpha)
            _move(draft, site, taken, factors)
            text = f"divided by {factors.min():.3g} to {factors.max():.3g}, alpha {alpha:g}"
            notes.append(Note("done", site.tensor.name, text))
            done.append({"tensor": site.tensor.name, "alpha": alpha, "readers": len(site.readers)})
        if not done:
            return Outcome(model, False, tuple(notes))
        draft.close()
        return Outcome(model, True, tuple(notes), details={"smoothed": done})

    def _seen(self, model: Model, sites: "Sequence[_Site]", context: Context) -> "Mapping[str, _Seen]":
        assert context.data is not None
        draw = Draw(self.rows, -(-len(context.data) // self.batch), context.seed)
        wanted: dict[str, Sequence[Accumulator]] = {
            site.tensor.name: [
                MinMax(site.axis),
                *([Values(draw, site.axis)] if len(self.alphas) > 1 else []),
            ]
            for site in sites
        }
        collect(model, context.data, wanted, self.batch, context.seed, context.progress, context.threads)
        return {name: _Seen.of(found) for name, found in wanted.items()}

    def _best(self, draft: Draft, site: "_Site", seen: "_Seen") -> float | None:
        """Return what is best for rows of samples that the ranges were not found on, None for leaving things alone.

        What one half of the rows finds is judged on the other: evened out channels all reach the end of the grid, and
        samples that go beyond it are clipped more often than where one channel does.
        """
        if len(self.alphas) == 1:
            return self.alphas[0]
        assert seen.rows is not None
        half = len(seen.rows) // 2
        known, held = seen.rows[:half], seen.rows[half:]
        ends = Extremes(known.min(axis=0), known.max(axis=0))
        errors: dict[float | None, float] = {None: _error(draft, site, ends, held, np.ones(site.channels))}
        for alpha in self.alphas:
            errors[alpha] = _error(draft, site, ends, held, _factors(draft, site, ends, alpha))
        return min(errors, key=lambda alpha: errors[alpha])


class _Site(NamedTuple):
    """A tensor that layers only read, with its channels on an axis counted from the end."""

    tensor: gs.Tensor
    readers: tuple[Reader, ...]
    axis: int
    channels: int


class _Seen(NamedTuple):
    """What was looked at: the ends of each channel, and rows [places, channels] where a choice hangs on them."""

    extremes: Extremes
    rows: Floats | None

    @classmethod
    def of(cls, found: Sequence[Accumulator]) -> "_Seen":
        """Return what extremes and rows, if they were asked for, came to."""
        extremes, *more = (each.result() for each in found)
        return cls(cast(Extremes, extremes), cast(Floats, more[0]) if more else None)


def _sites(draft: Draft) -> tuple[list[_Site], dict[str, str]]:
    """Return the tensors in the order of the graph, and why others that layers read are left."""
    sites: list[_Site] = []
    left: dict[str, str] = {}
    for tensor in _read_by_layers(draft):
        found = _site(draft, tensor)
        if isinstance(found, _Site):
            sites.append(found)
        else:
            left[tensor.name] = found
    return sites, left


def _read_by_layers(draft: Draft) -> Iterator[gs.Tensor]:
    """Yield what layers read first, each tensor once."""
    seen: set[int] = set()
    for node in draft.nodes():
        tensor = node.inputs[0] if len(node.inputs) else None
        if (
            tensor is None
            or id(tensor) in seen
            or draft.dtype(tensor) != np.float32
            or draft.is_constant(tensor)
        ):
            continue
        if reader_of(draft, node, tensor) is not None:
            seen.add(id(tensor))
            yield tensor


def _site(draft: Draft, tensor: gs.Tensor) -> _Site | str:
    if draft.is_output(tensor):
        return "it is an output of the model"
    readers: list[Reader] = []
    for node in draft.users(tensor):
        if node.op in _INDIFFERENT and is_default_domain(node):
            continue
        found = reader_of(draft, node, tensor)
        if found is None:
            return f"{node.op} {name_of(node)!r} reads it too, and cannot make up for a factor"
        readers.append(found)
    first = readers[0]
    if any((each.axis, each.channels) != (first.axis, first.channels) for each in readers):
        return "its readers do not agree on its channels"
    return _Site(tensor, tuple(readers), first.axis, first.channels)


def _factors(draft: Draft, site: _Site, extremes: Extremes, alpha: float) -> Floats:
    """Return a factor for each channel; 1 where a channel is not used, or nothing is known of it."""
    read = np.maximum(np.abs(extremes.low), np.abs(extremes.high))
    held = np.max(
        [np.abs(each.by_input(draft)).max(axis=(1, 2)).reshape(-1) for each in site.readers], axis=0
    )
    is_used = np.isfinite(read) & (read > 0) & (held > 0)
    read = np.maximum(read, _SMALLEST * read.max(initial=0.0, where=is_used))
    held = np.maximum(held, _SMALLEST * held.max(initial=0.0))
    factors = np.ones(site.channels)
    factors[is_used] = read[is_used] ** alpha / held[is_used] ** (1 - alpha)
    return factors


def _move(draft: Draft, site: _Site, taken: Found | str, factors: Floats) -> None:
    """Divide the tensor, and multiply it in the weights of all who read it."""
    if isinstance(taken, str):
        draft.anchor = site.readers[0].linear.node
        shape = (-1, *[1] * (-site.axis - 1))
        share = draft.add_constant(
            (1 / factors).astype(np.float32).reshape(shape), f"{site.tensor.name}_share"
        )
        divided = draft.op("Mul", site.tensor, share, like=site.tensor)
        for reader in site.readers:
            draft.set_input(reader.linear.node, 0, divided)
    else:
        for taker in taken:
            taker.divide(draft, factors)
    for reader in site.readers:
        reader.multiply(draft, factors)


def _error(draft: Draft, site: _Site, ends: Extremes, rows: Floats, factors: Floats) -> float:
    """Return the squared error of all readers' products for rows when both sides are rounded to 8 bits.

    A convolution counts as if each place of its window saw the rows by itself.
    """
    x, grid = rows.astype(np.float64), GRIDS["uint8"]
    span = Span(float((ends.low / factors).min()), float((ends.high / factors).max()))
    rounded = grid.round(x / factors, grid.scale(span))
    total = 0.0
    for reader in site.readers:
        weight = reader.by_input(draft)  # [groups, outputs, positions, inputs]
        groups, outputs, positions, inputs = weight.shape
        moved = weight * factors.reshape(groups, 1, 1, inputs)
        steps = np.abs(moved).max(axis=(2, 3), keepdims=True) / 127
        kept = np.rint(moved / np.where(steps > 0, steps, 1)) * steps
        shape = (groups, outputs * positions, inputs)
        for group in range(groups):
            part = slice(group * inputs, (group + 1) * inputs)
            exact = x[:, part] @ weight.reshape(shape)[group].T
            away = rounded[:, part] @ kept.reshape(shape)[group].T - exact
            total += float(np.square(away).sum())
    return total


def _nothing(why: str) -> Note:
    return Note("skipped", "the whole model", why)


__all__ = ["SmoothQuant"]
