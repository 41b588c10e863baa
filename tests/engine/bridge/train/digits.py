"""A small net and scikit-learn's digits, for tests of training."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from graphrewrite.bridge import Optimiser, Recipe, Stage
from graphrewrite.data import ArraySource
from graphrewrite.ir import Builder, Model
from graphrewrite.models.digits import split_indices
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.runtime import run

INPUT = "image"


def net(seed: int = 0, hidden: int = 64, classes: int = 10, name: str = INPUT) -> Model:
    """Return two layers with random weights, their outputs called scores."""
    b = Builder(seed=seed)
    x = b.input(["N", 64], name)
    model = b.model(b.linear(b.relu(b.linear(x, hidden, 64)), classes, hidden, name="last"))
    model.outputs[0].name = "scores"
    return model


@lru_cache
def scans() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return all scans [1797, 64] with their labels, and which of them are for training."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    train, _ = split_indices(bunch.target)
    return (bunch.data / 16).astype(np.float32), bunch.target, train


def training(samples: int | None = None) -> ArraySource:
    """Return the first of the scans for training, with labels."""
    x, y, train = scans()
    chosen = train[:samples]
    return ArraySource({INPUT: x[chosen]}, y[chosen])


def held_out() -> ArraySource:
    """Return the scans that are not for training."""
    x, y, train = scans()
    rest = np.setdiff1d(np.arange(len(x)), train)
    return ArraySource({INPUT: x[rest]}, y[rest])


def accuracy(model: Model) -> float:
    """Return the share of the held-out scans that onnxruntime gets right."""
    source = held_out()
    assert source.labels is not None
    scores = run(model, dict(source.arrays), ["scores"])["scores"]
    return float((np.asarray(scores).argmax(1) == source.labels).mean())


def brief(*stages: Stage, **fields: object) -> Recipe:
    """Return a recipe of the stages given, or of two epochs of cross-entropy."""
    chosen = stages or (Stage(2, 0.003, (CrossEntropy(),)),)
    return Recipe(chosen, **{"optimiser": Optimiser("adam"), "batch": 32, **fields})  # type: ignore[arg-type]


def same(a: Model, b: Model) -> bool:
    """Whether two models are equal to the last byte."""
    return a.to_proto().SerializeToString() == b.to_proto().SerializeToString()
