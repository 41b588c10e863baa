"""Operators of the classical machine-learning domain: one row per sample, one column per class or target."""

import numpy as np

from graphrewrite.ir.shape_rules.call import FLOAT32, INT64, STRING, Call, DType, Unknown, shape_rule
from graphrewrite.ir.sizes import product
from graphrewrite.ir.symbols import Dim

_ML = "ai.onnx.ml"


@shape_rule("Scaler", "Normalizer", domain=_ML, dtype=FLOAT32)
def scaled(call: Call) -> None:
    """Pass the shape, to float32."""
    call.put(0, call.shape(0))


@shape_rule("Imputer", "Binarizer", domain=_ML)
def same_shape(call: Call) -> None:
    """Pass shape and type."""
    call.put(0, call.shape(0))


@shape_rule("ArrayFeatureExtractor", domain=_ML)
def array_feature_extractor(call: Call) -> None:
    """Pick positions of the last axis; a vector counts as one row."""
    x, picks = call.known(0), call.known(1)
    call.put(0, (*(x[:-1] or (1,)), product(picks)))


def _rows(call: Call) -> Dim:
    x = call.known(0)
    return x[0] if len(x) > 1 else 1


def _labels(call: Call, *names: str) -> tuple[int, DType | None]:
    """Return how many class labels there are, and their type."""
    for name in names:
        labels = call.attribute(name)
        if isinstance(labels, list) and labels:
            return len(labels), STRING if isinstance(labels[0], str) else INT64
    return 0, None


def _length(call: Call, name: str) -> int:
    values = call.attribute(name)
    return len(values) if isinstance(values, list) else 0


@shape_rule("LinearRegressor", domain=_ML, dtype=FLOAT32)
def linear_regressor(call: Call) -> None:
    """[rows, targets]."""
    call.put(0, (_rows(call), call.integer("targets", 1)))


@shape_rule("TreeEnsembleRegressor", domain=_ML, dtype=FLOAT32)
def tree_regressor(call: Call) -> None:
    """[rows, targets]."""
    call.put(0, (_rows(call), call.integer("n_targets", 1)))


@shape_rule("TreeEnsemble", domain=_ML)
def tree_ensemble(call: Call) -> None:
    """[rows, targets]."""
    call.put(0, (_rows(call), call.integer("n_targets", 1)))


@shape_rule("SVMRegressor", domain=_ML, dtype=FLOAT32)
def svm_regressor(call: Call) -> None:
    """[rows, 1]."""
    call.put(0, (_rows(call), 1))


@shape_rule("LinearClassifier", domain=_ML, dtype=FLOAT32)
def linear_classifier(call: Call) -> None:
    """Labels [rows] and scores [rows, classes]; one score for two classes is written out as two."""
    classes, kind = _labels(call, "classlabels_ints", "classlabels_strings")
    call.put(0, (_rows(call),), kind)
    scores = _length(call, "intercepts")
    if scores == 1 and classes == 2:
        scores = 2
    if scores:
        call.put(1, (_rows(call), scores))


@shape_rule("TreeEnsembleClassifier", domain=_ML, dtype=FLOAT32)
def tree_classifier(call: Call) -> None:
    """Labels [rows] and scores [rows, classes]."""
    classes, kind = _labels(call, "classlabels_int64s", "classlabels_strings")
    call.put(0, (_rows(call),), kind)
    call.put(1, (_rows(call), classes))


@shape_rule("SVMClassifier", domain=_ML, dtype=FLOAT32)
def svm_classifier(call: Call) -> None:
    """Labels [rows] and probabilities per class, or one score per pair of classes."""
    classes, kind = _labels(call, "classlabels_ints", "classlabels_strings")
    call.put(0, (_rows(call),), kind)
    if _length(call, "prob_a"):
        call.put(1, (_rows(call), classes))
    elif classes > 2 and _length(call, "vectors_per_class"):
        call.put(1, (_rows(call), classes * (classes - 1) // 2))


@shape_rule("OneHotEncoder", domain=_ML, dtype=FLOAT32)
def one_hot_encoder(call: Call) -> None:
    """One more axis, as long as there are categories."""
    categories, _ = _labels(call, "cats_int64s", "cats_strings")
    call.put(0, (*call.known(0), categories))


@shape_rule("LabelEncoder", domain=_ML)
def label_encoder(call: Call) -> None:
    """Pass the shape; the type is that of the values."""
    kinds: dict[str, DType] = {"values_int64s": INT64, "values_floats": FLOAT32, "values_strings": STRING}
    found = [kind for name, kind in kinds.items() if _length(call, name)]
    call.sweep.dtypes.pop(call.outputs[0], None)
    call.put(0, call.shape(0), found[0] if found else None)


@shape_rule("FeatureVectorizer", domain=_ML, dtype=np.float32)
def feature_vectorizer(call: Call) -> None:
    """All columns side by side."""
    sizes = call.integers("inputdimensions")
    if sizes is None:
        raise Unknown
    call.put(0, (_rows(call), sum(sizes)))
