"""A small net on scikit-learn's digits, as they come: 64 pixels, ten classes, trained in a second."""

from functools import lru_cache

import numpy as np
import pytest

from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.data import ArraySource
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.train import FineTune
from graphrewrite.pipeline import Context, Pass, Pipeline
from graphrewrite.runtime import run
from tests.passes.channels.nets import floats


def net(seed: int = 0, hidden: int = 48, softmax: bool = False) -> Model:
    """Three products with rectifiers between, of random weights."""
    b = Builder(seed=seed)
    y = b.input(["N", 64], "x")
    for number, (into, out) in enumerate(((64, hidden), (hidden, 32), (32, 10))):
        w = b.constant(floats(b.rng.standard_normal((into, out)) * (2 / into) ** 0.5), f"w{number}")
        y = b.op("Gemm", y, w, b.constant(np.zeros(out, np.float32), f"b{number}"), name=f"layer{number}")
        y = b.relu(y) if number < 2 else y
    return b.model(b.op("Softmax", y, axis=-1) if softmax else y)


@lru_cache(maxsize=1)
def digits() -> tuple[ArraySource, ArraySource]:
    """Training and held-out samples with labels, 1197 and 600."""
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_digits()
    x, y = (bunch.data / 16).astype(np.float32), bunch.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1197], order[1197:]
    return ArraySource({"x": x[train]}, y[train]), ArraySource({"x": x[test]}, y[test])


def context(seed: int = 0) -> Context:
    """The training samples."""
    return Context(data=digits()[0], seed=seed, threads=1)


def labelled(epochs: int = 10, rate: float = 0.01) -> FineTune:
    """Training by labels."""
    return FineTune(Recipe((Stage(epochs, rate, (CrossEntropy(),)),)))


def train(model: Model, step: Pass, seed: int = 0) -> Model:
    """Return the model that one step makes."""
    return Pipeline([step]).run(model, context(seed)).model


@lru_cache(maxsize=4)
def trained(seed: int = 0) -> Model:
    """A net that knows digits; not to be changed."""
    return train(net(seed), labelled())


def right(model: Model) -> float:
    """Return the share of held-out digits whose label scores highest."""
    test = digits()[1]
    assert test.labels is not None
    (scores,) = run(model, dict(test.arrays)).values()
    return float((scores.argmax(axis=1) == test.labels).mean())
