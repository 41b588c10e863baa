"""Classic machine learning on numbers: features and linear models. What holds text is refused."""

from collections.abc import Sequence

import torch
from torch import Tensor

from graphrewrite.bridge.forms import op
from graphrewrite.errors import UnsupportedOp

ML = "ai.onnx.ml"


@op("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(x: Tensor, columns: Tensor) -> Tensor:
    """Pick from the last axis; of a vector the result has one row."""
    rows = x if x.dim() > 1 else x.unsqueeze(0)
    return rows[..., columns.reshape(-1).long()]


@op("Binarizer", domain=ML, gradient=False)
def binarizer(x: Tensor, *, threshold: float = 0.0) -> Tensor:
    """Return 1 above the threshold, else 0."""
    return (x > threshold).to(x.dtype)


@op("Scaler", domain=ML)
def scaler(x: Tensor, *, offset: Sequence[float] = (0.0,), scale: Sequence[float] = (1.0,)) -> Tensor:
    """Return (x - offset) * scale, one of each for all columns or for each."""
    return (x.float() - x.new_tensor(offset, dtype=torch.float32)) * x.new_tensor(scale, dtype=torch.float32)


@op("Normalizer", domain=ML)
def normalizer(x: Tensor, *, norm: str = "MAX") -> Tensor:
    """Divide rows by their largest number, the sum of their sizes (L1), or the root of their squares (L2)."""
    wide = x.float()
    if norm == "MAX":
        total = wide.amax(-1, keepdim=True)
    elif norm == "L1":
        total = wide.abs().sum(-1, keepdim=True)
    else:
        total = wide.square().sum(-1, keepdim=True).sqrt()
    return wide / torch.where(total == 0, 1.0, total)


@op("Imputer", domain=ML)
def imputer(
    x: Tensor,
    *,
    imputed_value_floats: Sequence[float] = (),
    imputed_value_int64s: Sequence[int] = (),
    replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Tensor:
    """Put a value, or one for each column, wherever a number stands for a missing one."""
    given, missing = (
        (imputed_value_floats, replaced_value_float)
        if x.is_floating_point()
        else (imputed_value_int64s, replaced_value_int64)
    )
    gone = torch.isnan(x) if missing != missing else x == missing
    return torch.where(gone, x.new_tensor(given), x)


@op("FeatureVectorizer", domain=ML)
def feature_vectorizer(*parts: Tensor, inputdimensions: Sequence[int]) -> Tensor:
    """Put columns side by side as floats, of each tensor as many as are said."""
    columns = [
        part.reshape(part.shape[0], -1)[:, :count].float() if part.dim() > 1 else part[None, :count].float()
        for part, count in zip(parts, inputdimensions, strict=False)
    ]
    return torch.cat(columns, 1)


@op("OneHotEncoder", domain=ML, gradient=False)
def one_hot_encoder(
    x: Tensor, *, cats_int64s: Sequence[int] = (), cats_strings: Sequence[str] = (), zeros: int = 1
) -> Tensor:
    """Return a new last axis with a 1 where the number is the category; what is none of them is all zeros."""
    if cats_strings:
        raise UnsupportedOp(
            "an OneHotEncoder of text has no torch form; expected cats_int64s; encode text before the model"
        )
    return (x.long().unsqueeze(-1) == torch.tensor(cats_int64s, device=x.device)).float()


@op("LinearRegressor", domain=ML)
def linear_regressor(
    x: Tensor,
    *,
    coefficients: Sequence[float],
    intercepts: Sequence[float] = (),
    post_transform: str = "NONE",
    targets: int = 1,
) -> Tensor:
    """Return x @ coefficients + intercepts, transformed."""
    return transformed(_linear(x, coefficients, intercepts, targets), post_transform)


@op("LinearClassifier", domain=ML)
def linear_classifier(
    x: Tensor,
    *,
    classlabels_ints: Sequence[int] = (),
    classlabels_strings: Sequence[str] = (),
    coefficients: Sequence[float],
    intercepts: Sequence[float] = (),
    multi_class: int = 0,
    post_transform: str = "NONE",
) -> tuple[Tensor, Tensor]:
    """Return the label with the largest score and the scores of all; one row of coefficients is for two classes."""
    if classlabels_strings:
        raise UnsupportedOp(
            "a LinearClassifier with text for labels has no torch form; expected classlabels_ints; "
            "train the model without it"
        )
    rows = len(coefficients) // x.shape[-1]
    scores = _linear(x, coefficients, intercepts, rows)
    labels = torch.tensor(classlabels_ints, device=x.device)
    if rows == 1 and len(classlabels_ints) == 2:
        chosen = labels[(scores[:, 0] > 0).long()]
        if post_transform == "LOGISTIC":
            chance = torch.sigmoid(scores)
            return chosen, torch.cat((1 - chance, chance), 1)
        return chosen, transformed(torch.cat((-scores, scores), 1), post_transform)
    return labels[scores.argmax(1)], transformed(scores, post_transform)


def transformed(scores: Tensor, how: str) -> Tensor:
    """Return scores as a node's `post_transform` wants them.

    Raises:
        UnsupportedOp: it is the inverse of the normal distribution.
    """
    if how == "NONE":
        return scores
    if how == "LOGISTIC":
        return torch.sigmoid(scores)
    if how == "SOFTMAX":
        return torch.softmax(scores, -1)
    if how == "SOFTMAX_ZERO":
        grown = torch.where(scores == 0, 0.0, torch.exp(scores - scores.amax(-1, keepdim=True)))
        return grown / grown.sum(-1, keepdim=True)
    raise UnsupportedOp(
        f"post_transform={how!r} has no torch form; expected NONE, LOGISTIC, SOFTMAX or SOFTMAX_ZERO; "
        "write it as nodes behind the model"
    )


def _linear(x: Tensor, coefficients: Sequence[float], intercepts: Sequence[float], rows: int) -> Tensor:
    weight = torch.tensor(coefficients, device=x.device).reshape(rows, -1)
    bias = torch.tensor(intercepts, device=x.device) if intercepts else None
    return torch.nn.functional.linear(x.float(), weight, bias)
