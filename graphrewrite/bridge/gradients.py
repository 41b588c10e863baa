"""Gradients of a loss by a model's own weights over data: what criteria of importance are made of."""

import math
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch

from graphrewrite.bridge.losses import as_scores
from graphrewrite.bridge.module import GraphModule
from graphrewrite.bridge.numbers import value_of
from graphrewrite.bridge.weights import PARAMETER, stored
from graphrewrite.data import DataSource
from graphrewrite.data.fit import fit
from graphrewrite.data.source import Arrays
from graphrewrite.data.stats import fixed_batch, no_full_batch
from graphrewrite.errors import InvalidData, UnsupportedOp
from graphrewrite.ir import Array, Model

LossOf: TypeAlias = Literal["outputs", "labels"]


def products(
    model: Model,
    source: DataSource,
    weights: Collection[str],
    loss: LossOf = "outputs",
    batch: int = 32,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[dict[str, Array]]:
    """Yield weight * gradient by weight name, for each batch of the data; all else is as for `gradients`."""
    numbers = {
        name: np.asarray(entry.array, np.float32) for name, entry in stored(model).items() if name in weights
    }
    for found, _ in gradients(model, source, weights, loss, batch, seed, progress):
        yield {name: numbers[name] * np.asarray(gradient, np.float32) for name, gradient in found.items()}


def gradients(
    model: Model,
    source: DataSource,
    weights: Collection[str],
    loss: LossOf = "outputs",
    batch: int = 32,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[tuple[dict[str, Array], int]]:
    """Yield the loss's gradients (float32, shaped like the weights) by name, and of how many samples, for each batch.

    The model runs as it would serve: norms use their running statistics. Weights that are not trained (integers, single
    numbers) are left out. A model with a fixed batch gets batches of that size.

    Of "labels" the loss is the cross-entropy of the first output [samples, classes] with a class for each label; of
    "outputs" it is a random projection of the outputs: each output is multiplied by signs drawn from the seed and
    divided by its root mean square over the data. A gate g on a unit then has a gradient whose square is, on average
    over the signs, how far the relative outputs move per change of g, squared: the Gauss-Newton estimate of |y(g) -
    y(1)|^2, whose plain gradient is zero where nothing has moved yet.

    Raises:
        UnsupportedOp: an operator has no torch form, none of the weights is trained, or no output depends on them
            smoothly.
        InvalidData: a batch does not fit the inputs, labels are no classes of the output, or there is no full batch.
    """
    module = GraphModule(model).eval()
    live = _live(module, weights)
    labels = _classes(source) if loss == "labels" else None
    last = -1 if labels is None else int(labels.max())
    steps = Steps(model, source, batch, seed)
    signs = _Signs(seed, {} if labels is not None else _sizes(module, steps))
    done = 0
    for feeds, here in steps:
        values = _outputs(module, feeds)
        value = (
            signs.projected(values) if labels is None else _cross_entropy(values, labels[list(here)], last)
        )
        found = torch.autograd.grad(value, list(live.values()), allow_unused=True)
        named = zip(live, found, strict=True)
        yield {name: each.float().numpy() for name, each in named if each is not None}, len(here)
        done += len(here)
        if progress is not None:
            progress("gradients", done, len(source))
    if not done:
        raise no_full_batch(source, model)


def _live(module: GraphModule, weights: Collection[str]) -> dict[str, torch.Tensor]:
    """Let gradients flow to these weights only, as far as they are parameters, and return them by name."""
    roles = module.record.roles
    trained = [name for name in sorted(set(weights)) if name in roles and roles[name].kind == PARAMETER]
    if not trained:
        name = min(weights, default="")
        why = roles[name].why if name in roles else "it holds no floating numbers"
        raise UnsupportedOp(
            f"none of the {len(set(weights))} weights has a gradient ({name}: {why}); expected floating weights; "
            "choose a criterion that needs no gradients"
        )
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return {name: module.weight_named(name).requires_grad_(True) for name in trained}


@dataclass(frozen=True)
class Steps:
    """Batches the model takes, each with the numbers of its samples; what does not fill a fixed batch is left out."""

    model: Model
    source: DataSource
    batch: int
    seed: int

    def __iter__(self) -> Iterator[tuple[Arrays, range]]:
        fixed = fixed_batch(self.model)
        seen = 0
        for given in self.source.batches(fixed or self.batch, self.seed):
            feeds = fit(given, self.model, "the data")
            size = min((len(array) for array in feeds.values() if array.ndim), default=0)
            if size and fixed in (None, size):
                yield feeds, range(seen, seen + size)
            seen += size


def _sizes(module: GraphModule, steps: Steps) -> dict[str, float]:
    """Return the root mean square of every output over the data."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for feeds, _ in steps:
        for name, value in _outputs(module, feeds).items():
            sums[name] = sums.get(name, 0.0) + float(value.detach().double().square().sum())
            counts[name] = counts.get(name, 0) + value.numel()
    return {name: math.sqrt(total / max(counts[name], 1)) for name, total in sums.items()}


def _outputs(module: GraphModule, feeds: Arrays) -> dict[str, torch.Tensor]:
    """Return the outputs that gradients flow from."""
    record = module.record
    found = module(*(value_of(feeds[name], torch.device("cpu")) for name in record.inputs))
    several: Sequence[object] = (found,) if len(record.outputs) == 1 else found
    smooth = {
        name: value
        for name, value in zip(record.outputs, several, strict=True)
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.requires_grad
    }
    if not smooth:
        raise UnsupportedOp(
            f"no output ({', '.join(record.outputs)}) depends smoothly on the weights; expected one that gradients "
            "flow from; choose a criterion that needs none"
        )
    return smooth


def _classes(source: DataSource) -> torch.Tensor:
    if source.labels is None:
        raise InvalidData(
            "the loss of labels was asked for and the data has none; expected a class for each sample; "
            'give labels, or take the loss of "outputs"'
        )
    labels = np.asarray(source.labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InvalidData(
            f"the labels are {labels.dtype} of shape {list(labels.shape)}; expected one class number a sample; "
            'take the loss of "outputs", which needs none'
        )
    return torch.from_numpy(labels.astype(np.int64))


def _cross_entropy(values: dict[str, torch.Tensor], labels: torch.Tensor, last: int) -> torch.Tensor:
    size = len(labels)
    fitting = (value for value in values.values() if value.ndim == 2 and len(value) == size)
    scores = next((value for value in fitting if value.shape[1] > max(last, 1)), None)
    if scores is None or int(labels.min()) < 0:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in values.items())
        raise InvalidData(
            f"the labels go from {int(labels.min())} to {last} and the outputs are {shapes}; expected an "
            "output of shape [samples, classes] with a class for every label; check them, or take the loss of outputs"
        )
    return torch.nn.functional.cross_entropy(as_scores(scores, 1), labels)


class _Signs:
    """Random signs for every output, from a stream of its own: other outputs do not matter."""

    def __init__(self, seed: int, sizes: Mapping[str, float]) -> None:
        self._seed = seed
        self._sizes = sizes
        self._streams: dict[str, np.random.Generator] = {}

    def projected(self, values: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum over the outputs of <signs, y> / its size."""
        parts = []
        for name, value in values.items():
            stream = self._streams.setdefault(
                name, np.random.default_rng([self._seed, zlib.crc32(name.encode())])
            )
            signs = torch.from_numpy(stream.choice(np.array([-1, 1], np.float32), tuple(value.shape)))
            parts.append((value.float() * signs).sum() / (self._sizes[name] or 1.0))
        return torch.stack(parts).sum()
