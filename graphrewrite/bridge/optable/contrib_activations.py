"""Activations of onnxruntime's own domain, alone, with a bias, or by name behind another operator."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from graphrewrite.bridge.forms import op
from graphrewrite.bridge.steps import Activations

MICROSOFT = "com.microsoft"


@op("Gelu", domain=MICROSOFT)
def gelu(x: Tensor) -> Tensor:
    """Return x by the normal distribution up to x."""
    return functional.gelu(x)


@op("BiasGelu", domain=MICROSOFT)
def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Return the gelu of x + bias."""
    return functional.gelu(x + bias)


@op("FastGelu", domain=MICROSOFT)
def fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the gelu of x + bias, with a tanh in place of the error function."""
    return functional.gelu(x if bias is None else x + bias, approximate="tanh")


@op("QuickGelu", domain=MICROSOFT)
def quick_gelu(x: Tensor, *, alpha: float = 1.702) -> Tensor:
    """Return x * sigmoid(alpha * x)."""
    return x * torch.sigmoid(alpha * x)


@op("BiasSplitGelu", domain=MICROSOFT)
def bias_split_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Return the first half of the last axis times the gelu of the second."""
    first, second = (x + bias).chunk(2, -1)
    return first * functional.gelu(second)


@op("BiasAdd", domain=MICROSOFT)
def bias_add(x: Tensor, bias: Tensor, skip: Tensor) -> Tensor:
    """Return x + bias + skip."""
    return x + bias + skip


def activated(x: Tensor, name: str, settings: Sequence[float] = ()) -> Tensor:
    """Apply the activation a fused operator names; no name is none.

    Raises:
        UnsupportedOp: the name is unknown.
    """
    if name == "Relu":
        return torch.relu(x)
    if name == "Clip":
        return torch.clamp(x, *settings)
    if name == "HardSwish":
        return functional.hardswish(x)
    if name == "Gelu":
        return functional.gelu(x)
    if not name:
        return x
    (function,) = Activations.chosen([name], settings[:1], settings[1:])
    return function(x)
