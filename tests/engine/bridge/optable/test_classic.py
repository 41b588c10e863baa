"""Classic operators, n-grams and optimizer steps: onnxruntime's kernels, and torch's own optimizers."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from graphrewrite.bridge.optable.classic import ML
from graphrewrite.bridge.optable.optimisers import adagrad, adam, momentum
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import Given, bridged, by_onnxruntime, node_model, same

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 3)).astype(np.float32)
HOLES = np.where(X > 0.8, np.float32(-7), X).astype(np.float32)
COEFFICIENTS = RNG.standard_normal(9).tolist()

CASES: dict[str, tuple[str, Given, int, Mapping[str, object]]] = {
    "pick": ("ArrayFeatureExtractor", [X, np.asarray([2, 0])], 1, {}),
    "binary": ("Binarizer", [X], 1, {"threshold": 0.2}),
    "scale": ("Scaler", [X], 1, {"offset": [0.1, 0.2, 0.3], "scale": [2.0, 3.0, 4.0]}),
    "largest": ("Normalizer", [np.abs(X)], 1, {"norm": "MAX"}),
    "sizes": ("Normalizer", [X], 1, {"norm": "L1"}),
    "roots": ("Normalizer", [X], 1, {"norm": "L2"}),
    "holes": ("Imputer", [HOLES], 1, {"imputed_value_floats": [1.0, 2.0, 3.0], "replaced_value_float": -7.0}),
    "whole_holes": (
        "Imputer", [np.asarray([[1, -1], [-1, 4]])], 1,
        {"imputed_value_int64s": [9], "replaced_value_int64": -1},
    ),
    "columns": ("FeatureVectorizer", [X, X[:, :2]], 1, {"inputdimensions": [3, 2]}),
    "categories": ("OneHotEncoder", [np.asarray([3, 5, 4])], 1, {"cats_int64s": [5, 3], "zeros": 1}),
    "regression": (
        "LinearRegressor", [X], 1, {"coefficients": COEFFICIENTS[:6], "intercepts": [0.1, 0.2], "targets": 2}
    ),
    "classes": (
        "LinearClassifier", [X], 2,
        {
            "coefficients": COEFFICIENTS, "intercepts": [0.1, 0.2, 0.3], "classlabels_ints": [7, 8, 9],
            "post_transform": "SOFTMAX",
        },
    ),
    "two_classes": (
        "LinearClassifier", [X], 2,
        {
            "coefficients": [*COEFFICIENTS[:3], *(-c for c in COEFFICIENTS[:3])], "intercepts": [0.1, -0.1],
            "classlabels_ints": [4, 6], "post_transform": "LOGISTIC",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_against_kernels(name: str) -> None:
    op, given, outputs, settings = CASES[name]
    proto = node_model(op, given, outputs, settings, domain=ML)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


def test_text_is_refused() -> None:
    given = [np.asarray([3, 5])]
    with pytest.raises(UnsupportedOp, match="cats_int64s"):
        bridged(node_model("OneHotEncoder", given, 1, {"cats_strings": ["a"]}, domain=ML), given)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("longest", [1, 2, 3])
@pytest.mark.parametrize("skips", [0, 2])
def test_ngrams(mode: str, longest: int, skips: int) -> None:
    """Words 0 to 2 in two rows; the pool has each word, pairs and a triple, counted in an order of its own."""
    given = [RNG.integers(0, 3, (2, 9)).astype(np.int64)]
    settings = {
        "mode": mode, "min_gram_length": 1, "max_gram_length": longest, "max_skip_count": skips,
        "pool_int64s": [0, 1, 2, 0, 1, 1, 2, 2, 2, 0, 1, 2], "ngram_counts": [0, 3, 9],
        "ngram_indexes": [6, 0, 1, 5, 2, 3, 4], "weights": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
    }  # fmt: skip
    proto = node_model("TfIdfVectorizer", given, 1, settings)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


def stepped(optimizer: type[torch.optim.Optimizer], settings: dict[str, object], steps: int) -> list[Array]:
    """Return where torch's optimizer takes two weights under slopes that are the weights themselves."""
    weights = [torch.nn.Parameter(torch.tensor([1.0, -2.0])), torch.nn.Parameter(torch.tensor([0.5]))]
    running = optimizer(weights, **settings)
    for _ in range(steps):
        for weight in weights:
            weight.grad = weight.detach().clone()
        running.step()
    return [weight.detach().numpy() for weight in weights]


def test_steps_are_those_of_torch() -> None:
    start = (torch.tensor([1.0, -2.0]), torch.tensor([0.5]))
    zeros = tuple(torch.zeros_like(weight) for weight in start)
    rate = torch.tensor(0.1)
    weights, means, squares = start, zeros, zeros
    for step in (1, 2, 3):
        found = adam(
            rate, torch.tensor(step), *weights, *weights, *means, *squares, epsilon=0.0, norm_coefficient=0.0
        )
        weights, means, squares = found[:2], found[2:4], found[4:]
    wanted = stepped(torch.optim.Adam, {"lr": 0.1, "eps": 1e-12}, 3)
    assert same([weight.numpy() for weight in weights], wanted)
    weights, sums = start, zeros
    for step in (0, 1):
        found = adagrad(rate, torch.tensor(step), *weights, *weights, *sums, epsilon=1e-10)
        weights, sums = found[:2], found[2:]
    assert same([weight.numpy() for weight in weights], stepped(torch.optim.Adagrad, {"lr": 0.1}, 2))
    for mode, nesterov in (("standard", False), ("nesterov", True)):
        weights, speeds = start, zeros
        for step in (0, 1):
            found = momentum(
                rate, torch.tensor(step), *weights, *weights, *speeds,
                alpha=0.9, beta=1.0, mode=mode, norm_coefficient=0.0,
            )  # fmt: skip
            weights, speeds = found[:2], found[2:]
        wanted = stepped(torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": nesterov}, 2)
        assert same([weight.numpy() for weight in weights], wanted)
