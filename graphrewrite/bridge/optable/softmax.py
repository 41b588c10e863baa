"""Distributions along an axis."""

import torch

from graphrewrite.bridge.forms import op


@op("Softmax", since=13)
def softmax(x: torch.Tensor, *, axis: int = -1) -> torch.Tensor:
    """Return exp(x) over its sum along an axis."""
    return torch.softmax(x, axis)


@op("LogSoftmax", since=13)
def log_softmax(x: torch.Tensor, *, axis: int = -1) -> torch.Tensor:
    """Return the logarithm of the softmax."""
    return torch.log_softmax(x, axis)


@op("Hardmax", since=13, gradient=False)
def hardmax(x: torch.Tensor, *, axis: int = -1) -> torch.Tensor:
    """Return 1 at the first largest number along an axis, 0 elsewhere."""
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)


# Before operator set 13 the axes from `axis` on count as one.


@op("Softmax")
def softmax_of_rows(x: torch.Tensor, *, axis: int = 1) -> torch.Tensor:
    """Return the softmax over all axes from `axis` on."""
    return torch.softmax(x.flatten(axis), -1).reshape(x.shape)


@op("LogSoftmax")
def log_softmax_of_rows(x: torch.Tensor, *, axis: int = 1) -> torch.Tensor:
    """Return the logarithm of the softmax over all axes from `axis` on."""
    return torch.log_softmax(x.flatten(axis), -1).reshape(x.shape)


@op("Hardmax", gradient=False)
def hardmax_of_rows(x: torch.Tensor, *, axis: int = 1) -> torch.Tensor:
    """Return 1 at the first largest of all numbers from `axis` on, 0 elsewhere."""
    return hardmax(x.flatten(axis)).reshape(x.shape)
