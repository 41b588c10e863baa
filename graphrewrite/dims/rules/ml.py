"""Classic machine learning: coefficients are attributes, cut like weights along the features they belong to.

What a tree, a text or a category does with a feature is not arithmetic: those are refused by name.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from graphrewrite.dims.axes import Axis, of_rows, rigid
from graphrewrite.dims.rules.shape import join
from graphrewrite.dims.sweep import Step, rule

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut

ML = "ai.onnx.ml"


def listed(s: Step, name: str) -> list[float]:
    """Return an attribute that lists numbers, whole or not, empty when absent."""
    value = s.attr(name)
    return list(value) if isinstance(value, list) else []


def features(s: Step) -> tuple[list[Axis], Axis]:
    """Return the axes of the samples and the axis of features, the last."""
    x = s.forced(s.axes(0))
    return x[:-1], x[-1]


def columns_follow(s: Step, axis: Axis, *names: str) -> None:
    """Cut attributes that list a number per feature, or rows of them; a list of one number is for all features."""
    width = axis.sizes[0]
    lists = {name: values for name in names if len(values := listed(s, name)) > 1}

    def follow(cut: "Cut") -> None:
        kept = cut.kept(axis)
        for name, values in lists.items():
            if kept is not None:
                cut.set_attr(s.index, name, np.asarray(values).reshape(-1, width)[:, kept].ravel().tolist())

    s.restate([axis], follow)


def scores(s: Step, *outputs: int) -> None:
    """Hand the outputs over: samples, and columns that nobody can do without."""
    for output in outputs:
        if output < len(s.node.outputs) and s.node.outputs[output].name:
            s.out([rigid(pair, f"made by {s.why}") for pair in s.out_sizes(output)], output)


@rule("LinearRegressor", "LinearClassifier", domain=ML)
def linear_model(s: Step) -> None:
    """Coefficients are rows of features, one row per target or class."""
    samples, axis = features(s)
    columns_follow(s, axis, "coefficients")
    s.mix("zero", 0, {len(samples): axis})
    s.macs(len(listed(s, "coefficients")) / max(axis.sizes[0], 1), [*samples, axis])
    scores(s, 0, 1)


@rule("SVMRegressor", "SVMClassifier", domain=ML)
def kernel_machine(s: Step) -> None:
    """Support vectors are rows of features; without any the machine is linear."""
    samples, axis = features(s)
    vectors = listed(s, "support_vectors")
    columns_follow(s, axis, "support_vectors" if vectors else "coefficients")
    s.mix("support_vectors", 0, {len(samples): axis})
    work = vectors or listed(s, "coefficients")
    s.macs(len(work) / max(axis.sizes[0], 1), [*samples, axis])
    if vectors:
        s.macs(len(listed(s, "coefficients")), samples)
    scores(s, 0, 1)


@rule("Scaler", domain=ML)
def scaler(s: Step) -> None:
    """Offset and factor per feature."""
    samples, axis = features(s)
    columns_follow(s, axis, "offset", "scale")
    s.out([*samples, axis])


@rule("Imputer", domain=ML)
def imputer(s: Step) -> None:
    """What stands for a missing value, per feature."""
    samples, axis = features(s)
    columns_follow(s, axis, "imputed_value_floats", "imputed_value_int64s")
    s.out([*samples, axis])


@rule("Binarizer", "LabelEncoder", domain=ML)
def one_by_one(s: Step) -> None:
    """Each value for itself."""
    s.out(s.axes(0))


@rule("Normalizer", domain=ML)
def normalizer(s: Step) -> None:
    """Divided by the largest value, the sum of sizes or the length over all features."""
    samples, axis = features(s)
    s.mix("lowest" if s.attr("norm", "MAX") == "MAX" else "zero", 0, {len(samples): axis})
    s.out([*samples, axis])


@rule("FeatureVectorizer", domain=ML)
def feature_vectorizer(s: Step) -> None:
    """Features of several inputs side by side."""
    parts = [s.forced(s.axes(slot)) for slot in range(len(s.node.inputs))]
    if any(len(part) != 2 for part in parts):
        s.refuse("features that do not come as rows are not followed")
        return
    s.restate(
        [part[1] for part in parts],
        lambda cut: cut.set_attr(s.index, "inputdimensions", [cut.count(part[1]) for part in parts]),
    )
    s.out(join(s, parts, 1))


@rule("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(s: Step) -> None:
    """Picks features by number."""
    samples, axis = features(s)
    index = s.numbers(1)
    if axis.is_rigid or index is None or not axis.is_static:
        s.pin(axis, "features are looked up by values of the input")
        scores(s, 0)
        return
    picked = np.asarray(index, dtype=np.int64)
    s.restate([axis], lambda cut: cut.set_numbers(s.index, 1, None, cut.renumbered(axis, picked).tolist()))
    s.out([*(samples or [rigid(1)]), s.window(of_rows(s.rows(axis)[picked]))])


_REASONS = {
    "a tree asks for features by number": ("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"),
    "categories are told apart by value": ("CategoryMapper", "OneHotEncoder"),
    "a map has no axes": ("CastMap", "DictVectorizer", "ZipMap"),
}


def _refusal(why: str) -> Callable[[Step], None]:
    return lambda s: s.refuse(why, tell=True)


for _why, _ops in _REASONS.items():
    rule(*_ops, domain=ML)(_refusal(_why))
