"""Losses that a graph carries itself."""

import torch
from torch import Tensor
from torch.nn import functional

from graphrewrite.bridge.forms import op

_NOTHING = -100  # torch's label for "ignore none", since every loss of it ignores one
_WEIGHT: dict[str | int, str] = {"weight": "how much a class counts is a setting of the loss"}


@op("NegativeLogLikelihoodLoss", since=12, still=_WEIGHT)
def nll(
    scores: Tensor,
    labels: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = _NOTHING,
    reduction: str = "mean",
) -> Tensor:
    """Return minus the log probability [N, C, ...] of each label [N, ...], reduced."""
    return functional.nll_loss(scores, labels.long(), weight, ignore_index=ignore_index, reduction=reduction)


@op("SoftmaxCrossEntropyLoss", since=12, still=_WEIGHT)
def softmax_cross_entropy(
    scores: Tensor,
    labels: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = _NOTHING,
    reduction: str = "mean",
) -> tuple[Tensor, Tensor]:
    """Return the loss of labels [N, ...] under scores [N, C, ...], and the log probabilities."""
    logs = torch.log_softmax(scores, 1)
    return nll(logs, labels, weight, ignore_index=ignore_index, reduction=reduction), logs
