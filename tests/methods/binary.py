"""Training binary nets over several seeds, and watching their signs while they move.

`python -m tests.methods.binary METHOD ...` prints the rows of the guide's tables.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import nn

from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.bridge.transforms.base import Advancing, Lowered, WeightTransform
from graphrewrite.ir import Array
from graphrewrite.match import Draft
from graphrewrite.passes.binary import TrainBinary
from graphrewrite.passes.binary.binarizers import Binarizer, binarizers
from graphrewrite.passes.binary.flips import c2i_ratio, ff_ratio
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.recipes.adam_bnn import AdamBnn
from graphrewrite.pipeline import Context
from tests.passes.binary.nets import few, net, right

SAMPLES, EPOCHS, SEEDS, BATCH = 300, 30, 5, 50
DECAYING = Optimiser("sgd", {"momentum": 0.9, "weight_decay": 5e-4})


@dataclass
class Seen:
    """What a weight went through: its signs first and last, how many flipped at each step, which did at least once."""

    latent: torch.Tensor | None = None
    first: Array | None = None
    last: Array | None = None
    moved: Array | None = None
    flips: list[float] = field(default_factory=list)

    def take(self, latent: torch.Tensor, signs: Array) -> None:
        """Take in the signs of one step."""
        self.latent = latent
        if self.first is None or self.last is None or self.moved is None:
            self.first, self.moved = signs, np.zeros(signs.shape, np.bool_)
        else:
            self.flips.append(ff_ratio(self.last, signs))
            self.moved = self.moved | (self.last.astype(np.float32) != signs.astype(np.float32))
        self.last = signs


@dataclass(frozen=True)
class Watch:
    """Another transform of a weight, and what is seen of it."""

    of: WeightTransform
    seen: Seen

    @property
    def tolerance(self) -> float:
        """That of the other."""
        return self.of.tolerance

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the other's form with eyes on it."""
        return Watching(self.of.module(weight), self.seen)

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the other's."""
        return self.of.lower(weight, {name.removeprefix("inner."): array for name, array in state.items()})


class Watching(nn.Module):
    """Runs the form inside, and notes its signs in training."""

    def __init__(self, inner: nn.Module, seen: Seen) -> None:
        super().__init__()
        self.inner = inner
        self.seen = seen

    def advance(self, done: float) -> None:
        """Hand on the place in the stage."""
        if isinstance(self.inner, Advancing):
            self.inner.advance(done)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the form returns."""
        found: torch.Tensor = self.inner(x)
        if self.training:
            self.seen.take(x.detach(), np.sign(found.detach().numpy()))
        return found


@dataclass(frozen=True)
class Watched(Binarizer):
    """Another binarizer whose weights are watched."""

    of: Binarizer
    seen: list[Seen] = field(default_factory=list)

    def weight(self, stage: Stage) -> WeightTransform:
        """Return a watched transform; each call is for one layer."""
        self.seen.append(Seen())
        return Watch(self.of.weight(stage), self.seen[-1])

    def activation(self, stage: Stage) -> WeightTransform:
        """Return the other's."""
        return self.of.activation(stage)

    def undecayed(self, binary: Sequence[str], ranks: Mapping[str, int]) -> tuple[str, ...]:
        """Return the other's."""
        return self.of.undecayed(binary, ranks)

    def before(self, draft: Draft, x: gs.Tensor, channels: int) -> gs.Tensor:
        """Write the other's."""
        return self.of.before(draft, x, channels)

    def behind(self, draft: Draft, sums: gs.Tensor, filters: Array) -> gs.Tensor:
        """Write the other's."""
        return self.of.behind(draft, sums, filters)

    def rectifier(self, draft: Draft, x: gs.Tensor, channels: int) -> gs.Tensor | None:
        """Write the other's."""
        return self.of.rectifier(draft, x, channels)


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        accuracy: share of the held-out digits that are right.
        flipped: share of signs that moved at least once.
        restless: mean share of signs that one step moved.
        kept: share of signs that end as they began.
        kurtosis: of the latent weights, layer by layer and then their mean; 3 for a normal distribution.
    """

    accuracy: float
    flipped: float
    restless: float
    kept: float
    kurtosis: float


def labelled(rate: float = 0.1, optimiser: Optimiser = DECAYING, epochs: int = EPOCHS) -> Recipe:
    """Return the recipe that methods are compared by: labels, one stage, the rate along a cosine."""
    return Recipe((Stage(epochs, rate, (CrossEntropy(),), warmup=1.0),), optimiser, BATCH)


def two_steps(rate: float) -> Recipe:
    """Return the two steps of `adam_bnn` from labels, together as many epochs as the others have."""
    return AdamBnn(epochs=(EPOCHS // 2, EPOCHS // 2), rate=rate, labels=1.0, batch=BATCH).recipe(None)


def trained(method: Binarizer, seed: int, recipe: Recipe, rectifier: str = "Clip") -> Run:
    """Train one net on few digits; of several stages the first leave weights real."""
    torch.set_num_threads(1)
    watched = Watched(method)
    context = Context(data=few(SAMPLES), seed=seed, progress=lambda *told: None)
    step = TrainBinary(watched, recipe, real_stages=len(recipe.stages) - 1)
    model = step.run(net(seed, rectifier=rectifier), context).model
    layers = [seen for seen in watched.seen if seen.flips]
    return Run(
        right(model),
        _mean([float(np.mean(seen.moved.astype(np.float64))) for seen in layers if seen.moved is not None]),
        _mean([float(np.mean(seen.flips)) for seen in layers]),
        _mean(
            [
                c2i_ratio(seen.first, seen.last)
                for seen in layers
                if seen.first is not None and seen.last is not None
            ]
        ),
        _mean([_kurtosis(seen.latent.numpy()) for seen in layers if seen.latent is not None]),
    )


def over_seeds(method: Binarizer, recipe: Recipe, rectifier: str = "Clip", seeds: int = SEEDS) -> list[Run]:
    """Train from several seeds."""
    return [trained(method, seed, recipe, rectifier) for seed in range(seeds)]


def accuracies(runs: Sequence[Run]) -> list[float]:
    """Return what each run got right, in %."""
    return [round(100 * run.accuracy, 1) for run in runs]


def told(name: str, runs: Sequence[Run]) -> str:
    """Return a row of a table."""
    each = accuracies(runs)
    means = (
        _mean([getattr(run, part) for run in runs]) for part in ("flipped", "restless", "kept", "kurtosis")
    )
    flipped, restless, kept, kurtosis = means
    return (
        f"| {name} | {', '.join(map(str, each))} | {_mean(each):.1f} | {100 * flipped:.1f} | {100 * restless:.2f} | "
        f"{100 * kept:.1f} | {kurtosis:.2f} |"
    )


def _kurtosis(weight: Array) -> float:
    flat = np.asarray(weight, np.float64).reshape(-1)
    flat = flat - flat.mean()
    return float((flat**4).mean() / (flat**2).mean() ** 2)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def main(words: Sequence[str]) -> None:
    """Print a row for each `name[:field=value...][@rate][~optimiser[=decay]][/rectifier]`; ~two is `adam_bnn`."""
    for word in words:
        rest, _, rectifier = word.partition("/")
        rest, _, optimiser = rest.partition("~")
        rest, _, rate = rest.partition("@")
        name, *settings = rest.split(":")
        fields = {key: json.loads(value) for key, _, value in (each.partition("=") for each in settings)}
        method = replace(binarizers.make(name), **fields)  # type: ignore[type-var]
        kind, _, decay = optimiser.partition("=")
        chosen = Optimiser(kind, {"weight_decay": float(decay or 0)}) if kind else DECAYING
        at = float(rate or 0.1)
        recipe = two_steps(at) if kind == "two" else labelled(at, chosen)
        started = perf_counter()
        runs = over_seeds(method, recipe, rectifier or "Clip")
        print(told(word, runs), f"{perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
