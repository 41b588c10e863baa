"""Fitted scikit-learn pipelines through skl2onnx: scalers, decompositions, nets, linear models, trees.

Most have little to prune; they hold operators of the `ai.onnx.ml` set that a rewriter must let through untouched.
Needs scikit-learn and skl2onnx.
"""

import importlib
from collections.abc import Callable
from functools import partial

import numpy as np

from tests.corpus.index import Array, Feed
from tests.corpus.spec import Built, Family, Spec


def data() -> tuple[Array, Array]:
    """Three overlapping clouds of twelve features."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, 240)
    return (rng.standard_normal((240, 12)) + rng.standard_normal((3, 12))[labels]).astype(np.float32), labels


def pipeline(*steps: str, **settings: object) -> object:
    """A pipeline of classes given as `module.Class`; settings go to the last."""
    made = []
    for i, step in enumerate(steps):
        module, name = step.rsplit(".", 1)
        kind = getattr(importlib.import_module(f"sklearn.{module}"), name)
        made.append(kind(**(settings if i == len(steps) - 1 else EARLY.get(name, {}))))
    return importlib.import_module("sklearn.pipeline").make_pipeline(*made)


EARLY: dict[str, dict[str, object]] = {
    "PCA": {"n_components": 6},
    "SelectKBest": {"k": 6},
    "PolynomialFeatures": {"degree": 2},
}
SCALER = "preprocessing.StandardScaler"
ROWS: tuple[tuple[str, Family, Callable[[], object]], ...] = (
    (
        "mlp",
        "mlp",
        partial(pipeline, SCALER, "neural_network.MLPClassifier", hidden_layer_sizes=(32, 16), max_iter=40),
    ),
    (
        "mlp_regressor",
        "mlp",
        partial(pipeline, SCALER, "neural_network.MLPRegressor", hidden_layer_sizes=(24,), max_iter=40),
    ),
    (
        "pca_mlp",
        "mlp",
        partial(
            pipeline,
            "decomposition.PCA",
            "neural_network.MLPClassifier",
            hidden_layer_sizes=(16,),
            activation="tanh",
            max_iter=40,
        ),
    ),
    ("logistic", "other", partial(pipeline, SCALER, "decomposition.PCA", "linear_model.LogisticRegression")),
    ("svm", "other", partial(pipeline, SCALER, "svm.SVC", probability=False)),
    ("ridge", "other", partial(pipeline, "preprocessing.PolynomialFeatures", "linear_model.Ridge")),
    (
        "forest",
        "other",
        partial(
            pipeline,
            "feature_selection.SelectKBest",
            "ensemble.RandomForestClassifier",
            n_estimators=8,
            max_depth=5,
        ),
    ),
    ("boosting", "other", partial(pipeline, "ensemble.GradientBoostingRegressor", n_estimators=8)),
    (
        "kmeans",
        "other",
        partial(pipeline, "preprocessing.MinMaxScaler", "cluster.KMeans", n_clusters=4, n_init=2),
    ),
    ("gaussian_process", "other", partial(pipeline, "gaussian_process.GaussianProcessRegressor", alpha=0.1)),
)


def build(make: Callable[[], object]) -> Built:
    """Fit and convert; class labels and probabilities are plain tensors, not maps."""
    convert = importlib.import_module("skl2onnx")
    types = importlib.import_module("skl2onnx.common.data_types")
    np.random.seed(3)  # the estimators above are seeded through numpy's global state
    model = make()
    features, labels = data()
    fitted = model.fit(features, labels)  # type: ignore[attr-defined]
    final = fitted.steps[-1][1]
    options = {id(final): {"zipmap": False}} if hasattr(final, "classes_") else None
    proto = convert.convert_sklearn(
        fitted, initial_types=[("x", types.FloatTensorType([None, 12]))], options=options, target_opset=17
    )
    return Built(proto, (Feed("x", (None, 12)),))


def specs_of_source() -> list[Spec]:
    """All pipelines."""
    importlib.import_module("skl2onnx")
    return [
        Spec(f"sklearn_{name}.skl2onnx", family, "foreign", "skl2onnx", partial(build, make), name == "mlp")
        for name, family, make in ROWS
    ]
