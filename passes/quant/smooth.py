"""Moving what is hard to round from activations into weights, where channels have scales of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import ClassVar, NamedTuple, cast

import numpy as np

from graphrewrite.data import MinMax, collect
from graphrewrite.data.accumulators import Accumulator, Extremes
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.match import Draft
from graphrewrite.match.view import View
from graphrewrite.passes.quant.divided import Site, sites_of
from graphrewrite.passes.quant.factors import takers
from graphrewrite.passes.quant.grid import Floats
from graphrewrite.passes.quant.insert_qdq import InsertQdq
from graphrewrite.passes.quant.plan import name_of
from graphrewrite.passes.quant.products import Products
from graphrewrite.passes.quant.rows import Draw, Values
from graphrewrite.passes.quant.trial import Trial, nearer
from graphrewrite.pipeline import Claim, Context, Note, Outcome, Same, passes
from graphrewrite.pipeline.base import Json

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
        alphas: how much of the range moves, from 0 to 1: of several, the best for each tensor.
        gain: dB that the products of a tensor must come nearer to the exact ones on samples that ranges were not found
            on, and then the outputs of the model; else things stay as they are. -inf moves whatever can be moved.
        step: what will round the model; gains are told by its codes, steps and ranges.
        inserts: multiply where nothing can take factors in, which costs a pass over the tensor each run.
        rows: places of each tensor that its products are judged on.
        batch: samples that run together.

    Outputs stay the same: nothing is rounded here.
    """

    alphas: tuple[float, ...] = (0.5,)
    gain: float = 1.0
    step: InsertQdq = InsertQdq()
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
        if not self.gain < inf:
            raise InvalidConfig(
                f"SmoothQuant.gain is {self.gain!r}; expected a number of dB; 1 is usual, -inf moves all there is"
            )
        for name in ("rows", "batch"):
            value = getattr(self, name)
            if isinstance(value, bool) or value < 1:
                raise InvalidConfig(f"SmoothQuant.{name} is {value!r}; expected a whole number of at least 1")

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Look at the samples once, find the best factors of each tensor, and keep those that the outputs gain by."""
        draft = Draft(model)
        sites, left = sites_of(draft)
        notes = [Note("skipped", name, why) for name, why in left.items()]
        if not sites:
            return Outcome(model, False, tuple(notes) or (_nothing("no layer reads what can be divided"),))
        if context.data is None:
            raise InvalidConfig(
                f"SmoothQuant looks at the channels of {len(sites)} tensors on samples, and there is no data; expected "
                "Context(data=...), or --data on the command line; a few hundred samples without labels will do"
            )
        seen = self._seen(model, sites, context)
        rounded = self._rounded(model)
        gains: dict[str, _Gain] = {}
        for site in sites:
            name = site.tensor.name
            taken = takers(draft, site.tensor, site.axis, site.channels)
            if isinstance(taken, str) and not self.inserts:
                notes.append(Note("skipped", name, taken))
            elif isinstance(best := self._best(draft, site, seen[name], rounded), str):
                notes.append(Note("skipped", name, best))
            else:
                gains[name] = best
        kept = self._kept(model, gains, seen, context)
        why = f"the outputs of the rounded model do not come {self.gain:g} dB nearer by it"
        notes += [Note("skipped", name, why) for name in gains if name not in kept]
        if not kept:
            return Outcome(model, False, tuple(notes))
        done = _smooth(model, {name: gains[name].alpha for name in kept}, seen)
        notes += [
            Note("done", each.tensor, f"divided by {each.low:.3g} to {each.high:.3g}, alpha {each.alpha:g}")
            for each in done
        ]
        told: list[Json] = [
            {"tensor": each.tensor, "alpha": each.alpha, "readers": each.readers} for each in done
        ]
        return Outcome(model, True, tuple(notes), details={"smoothed": told})

    def _seen(self, model: Model, sites: "Sequence[Site]", context: Context) -> "Mapping[str, _Seen]":
        assert context.data is not None
        draw = Draw(self.rows, -(-len(context.data) // self.batch), context.seed)
        wanted: dict[str, Sequence[Accumulator]] = {
            site.tensor.name: [MinMax(site.axis), Values(draw, site.axis)] for site in sites
        }
        collect(model, context.data, wanted, self.batch, context.seed, context.progress, context.threads)
        return {name: _Seen.of(found) for name, found in wanted.items()}

    def _rounded(self, model: Model) -> frozenset[str]:
        """Return the layers whose inputs will have one coarse scale."""
        planner = self.step.planner(View(model))
        layers = () if planner is None else planner.choice.layers.values()
        return frozenset(name_of(layer.node) for layer in layers if not layer.tier.wide)

    def _best(self, draft: Draft, site: Site, seen: "_Seen", rounded: frozenset[str]) -> "_Gain | str":
        """Return the alpha that brings products nearest and by how much, or why none is worth it."""
        if self.gain == -inf and len(self.alphas) == 1:
            return _Gain(self.alphas[0], inf)
        readers = [each for each in site.readers if name_of(each.linear.node) in rounded]
        if self.gain > -inf and not readers:
            return "no layer that reads it is rounded with 8 bits of it"
        weights = [each.by_input(draft) for each in readers or site.readers]
        products = Products(seen.rows, weights, self.step)
        found = [
            _Gain(alpha, products.gain(partial(_factors, draft, site, alpha=alpha))) for alpha in self.alphas
        ]
        best = max(found, key=lambda each: each.gain)
        if best.gain >= self.gain:
            return best
        return f"no alpha brings its products {self.gain:g} dB nearer (best is {best.alpha:g}: {best.gain:+.1f} dB)"

    def _kept(
        self, model: Model, gains: "Mapping[str, _Gain]", seen: "Mapping[str, _Seen]", context: Context
    ) -> frozenset[str]:
        """Return the tensors to smooth: all, or the half, the quarter ... that gain most, or none."""
        if self.gain == -inf or not gains:
            return frozenset(gains)
        trial = Trial.of(model, self.step, context)
        order = sorted(gains, key=lambda name: -gains[name].gain)
        noises: dict[int, float] = {0: trial.noise(model)}
        count = len(order)
        while count:
            tried = model.clone()
            _smooth(tried, {name: gains[name].alpha for name in order[:count]}, seen)
            noises[count] = trial.noise(tried)
            count //= 2
        best = min(noises, key=lambda count: noises[count])
        return frozenset(order[: best if nearer(noises[0], noises[best]) >= self.gain else 0])


class _Gain(NamedTuple):
    """An alpha, and by how many dB products come nearer with it."""

    alpha: float
    gain: float


class _Done(NamedTuple):
    """A tensor that was divided by factors from `low` to `high`, and how many layers make up for it."""

    tensor: str
    alpha: float
    low: float
    high: float
    readers: int


def _smooth(model: Model, alphas: Mapping[str, float], seen: "Mapping[str, _Seen]") -> list[_Done]:
    """Divide the tensors that are named, and multiply in what reads them."""
    draft = Draft(model)
    done: list[_Done] = []
    for site in sites_of(draft)[0]:
        name = site.tensor.name
        if name in alphas:
            taken = takers(draft, site.tensor, site.axis, site.channels)
            factors = _factors(draft, site, seen[name].extremes, alphas[name])
            site.divide(draft, taken, factors)
            done.append(
                _Done(name, alphas[name], float(factors.min()), float(factors.max()), len(site.readers))
            )
    draft.close()
    return done


class _Seen(NamedTuple):
    """What was looked at: the ends of each channel, and rows [places, channels]."""

    extremes: Extremes
    rows: Floats

    @classmethod
    def of(cls, found: Sequence[Accumulator]) -> "_Seen":
        """Return what extremes and rows came to."""
        extremes, rows = (each.result() for each in found)
        return cls(cast(Extremes, extremes), cast(Floats, rows))


def _factors(draft: Draft, site: Site, extremes: Extremes, alpha: float) -> Floats:
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


def _nothing(why: str) -> Note:
    return Note("skipped", "the whole model", why)


__all__ = ["SmoothQuant"]
