"""Rules of classic machine learning: coefficients follow the features that something upstream makes."""

import numpy as np
import pytest

from graphrewrite.dims import groups
from graphrewrite.passes.channels import Ratio, RemoveChannels
from graphrewrite.pipeline import Context
from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn, Style
from tests.support.oracles import random_dead, removal
from tests.support.tolerances import FLOAT32

cases = Cases()
ML = "ai.onnx.ml"


def features(d: Drawing, count: int = 6) -> Drawn:
    """Draw a projection, as PCA before a model."""
    return d.matmul(d.input(4, 5), d.floats(5, count, name="a"))


def numbers(d: Drawing, count: int, scale: float = 1.0, offset: float = 0.0) -> list[float]:
    return [float(v) for v in offset + scale * d.rng.standard_normal(count)]


@cases.add("6: a[1]")
def linear_regression(d: Drawing) -> Drawn:
    x = features(d)
    return d.op(
        "LinearRegressor", x, shape=(x.shape[0], 2), domain=ML, coefficients=numbers(d, 12), intercepts=[0.5, -0.5],
        targets=2,
    )  # fmt: skip


@cases.add("6: a[1]")
def linear_classification(d: Drawing) -> Drawn:
    x = features(d)
    outputs = d.ops(
        "LinearClassifier", x, shapes=[(x.shape[0],), (x.shape[0], 3)], domain=ML, coefficients=numbers(d, 18),
        intercepts=[0.0, 0.1, 0.2], classlabels_ints=[0, 1, 2], multi_class=1, post_transform="SOFTMAX",
    )  # fmt: skip
    return outputs[1]


def machine(d: Drawing, kernel: str) -> Drawn:
    x = features(d)
    return d.op(
        "SVMRegressor", x, shape=(x.shape[0], 1), domain=ML, kernel_type=kernel, n_supports=4, rho=[0.3],
        support_vectors=numbers(d, 24), coefficients=numbers(d, 4), kernel_params=[0.2, 0.1, 2.0],
    )  # fmt: skip


@cases.add("6: a[1]")
def support_vectors_with_a_distance(d: Drawing) -> Drawn:
    return machine(d, "RBF")


@cases.add("6: a[1]")
def support_vectors_with_a_product(d: Drawing) -> Drawn:
    return machine(d, "POLY")


@cases.add("6: a[1]")
def support_vectors_of_classes(d: Drawing) -> Drawn:
    x = features(d)
    outputs = d.ops(
        "SVMClassifier", x, shapes=[(x.shape[0],), (x.shape[0], 2)], domain=ML, kernel_type="RBF",
        support_vectors=numbers(d, 30), coefficients=numbers(d, 5), vectors_per_class=[2, 3], rho=[0.1],
        classlabels_ints=[0, 1], kernel_params=[0.2, 0.0, 3.0], prob_a=[-1.0], prob_b=[0.2],
    )  # fmt: skip
    return outputs[1]


@cases.add("6: a[1]")
def machine_without_vectors(d: Drawing) -> Drawn:
    x = features(d)
    return d.op(
        "SVMRegressor", x, shape=(x.shape[0], 1), domain=ML, kernel_type="LINEAR", n_supports=0, rho=[0.3],
        coefficients=numbers(d, 6), kernel_params=[0.0, 0.0, 0.0],
    )  # fmt: skip


@cases.add("6: a[1] last[0]")
def scaled_and_completed(d: Drawing) -> Drawn:
    """A number per feature in each node, then one for all of them."""
    x = features(d)
    scale = {"offset": numbers(d, 6), "scale": numbers(d, 6, 0.1, 1.0)}
    y = d.op("Scaler", x, shape=x.shape, domain=ML, **scale)
    y = d.op("Scaler", y, shape=x.shape, domain=ML, offset=[0.1], scale=[2.0])
    y = d.op(
        "Imputer", y, shape=x.shape, domain=ML, imputed_value_floats=numbers(d, 6), replaced_value_float=0.0
    )
    return d.matmul(y, d.floats(6, 3, name="last"))


@cases.add("6: a[1] last[0]")
def divided_by_the_largest(d: Drawing) -> Drawn:
    x = features(d)
    y = d.op("Normalizer", d.unary("Sigmoid", x), shape=x.shape, domain=ML, norm="MAX")
    return d.matmul(y, d.floats(6, 3, name="last"))


@cases.add("6: a[1] last[0]")
def divided_by_their_length(d: Drawing) -> Drawn:
    x = features(d)
    y = d.op("Normalizer", x, shape=x.shape, domain=ML, norm="L1")
    y = d.op("Normalizer", y, shape=x.shape, domain=ML, norm="L2")
    return d.matmul(y, d.floats(6, 3, name="last"))


@cases.add("2: a[1] last[0]", "3: b[1] last[0]")
def features_of_two_inputs(d: Drawing) -> Drawn:
    x = d.input(4, 5)
    a, b = d.matmul(x, d.floats(5, 2, name="a")), d.matmul(x, d.floats(5, 3, name="b"))
    y = d.op("FeatureVectorizer", a, b, shape=(x.shape[0], 5), domain=ML, inputdimensions=[2, 3])
    return d.matmul(y, d.floats(5, 3, name="last"))


@cases.add("3: a[1]", "3: a[1] last[0]")
def some_of_the_features(d: Drawing) -> Drawn:
    """Features nobody picks are units of their own: what else reads them here is the other sum."""
    x = features(d)
    y = d.op("ArrayFeatureExtractor", x, d.ints(5, 0, 3), shape=(x.shape[0], 3), domain=ML)
    return d.add(d.matmul(y, d.floats(3, 2, name="last")), d.reduce("ReduceMean", x, 1))


@cases.add(pins={"a[1]": "a tree asks for features by number"}, moves=False)
def tree(d: Drawing) -> Drawn:
    x = features(d)
    return d.op(
        "TreeEnsembleRegressor", x, shape=(x.shape[0], 1), domain=ML, n_targets=1,
        nodes_featureids=[3, 0, 0], nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_nodeids=[0, 1, 2],
        nodes_treeids=[0, 0, 0], nodes_values=[0.1, 0.0, 0.0], nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0], nodes_hitrates=[1.0, 1.0, 1.0], nodes_missing_value_tracks_true=[0, 0, 0],
        target_ids=[0, 0], target_nodeids=[1, 2], target_treeids=[0, 0], target_weights=[1.0, -1.0],
    )  # fmt: skip


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)


@pytest.mark.parametrize(
    "name", ["linear-regression", "support-vectors-with-a-distance", "divided-by-their-length"]
)
def test_without_its_masks_the_proof_fails(name: str) -> None:
    model = next(case for case in cases if case.name == name).model()
    found = groups(model)
    dead = random_dead(found, np.random.default_rng(1), untouched=0)
    assert removal(model, found, dead).error < FLOAT32
    found.analysis.mixes.clear()
    assert removal(model, found, dead).error > 1e-3


def test_a_model_with_nothing_to_remove_comes_back_as_it_is_and_says_so() -> None:
    d = Drawing(Style())
    x = d.input(4, 5)
    y = d.op(
        "LinearRegressor", x, shape=(x.shape[0], 1), domain=ML, coefficients=numbers(d, 5), intercepts=[0.1]
    )
    model = d.model(y)
    outcome = RemoveChannels(budget=Ratio(0.5)).run(model, Context())
    assert not outcome.changed
    assert "nothing can be removed from this model" in outcome.notes[0].text
    assert outcome.model.to_proto() == model.to_proto()


def test_a_tree_is_listed_with_its_reason() -> None:
    model = next(case for case in cases if case.name == "tree").model()
    assert list(groups(model).analysis.refused) == [
        "ai.onnx.ml.TreeEnsembleRegressor (a tree asks for features by number)"
    ]
