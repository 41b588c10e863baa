"""Norms of onnxruntime's own domain: with a residual sum before them, over groups, or over embeddings.

Two of them are kept in the default domain by onnxruntime although the standard does not have them there.
"""

import torch
from torch import Tensor
from torch.nn import functional

from graphrewrite.bridge.forms import op
from graphrewrite.bridge.optable.contrib_activations import MICROSOFT
from graphrewrite.bridge.optable.norm import layer_norm_parts


@op("SimplifiedLayerNormalization", ignores=("stash_type",))
def simplified_layer_norm(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Divide by the root of the mean square from an axis on; return also what was multiplied with."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    dims = list(range(axis % x.dim(), x.dim()))
    inverse = torch.rsqrt(wide.square().mean(dims, keepdim=True) + epsilon)
    return (wide * inverse).to(x.dtype) * scale, inverse


op("SimplifiedLayerNormalization", domain=MICROSOFT, ignores=("stash_type",))(simplified_layer_norm)


@op("LayerNormalization", ignores=("stash_type",))
def layer_norm(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize from an axis on; return also the mean and the inverse deviation."""
    return layer_norm_parts(x, scale, bias, axis, epsilon, torch.float32, None)


@op("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_norm(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
) -> tuple[Tensor | None, ...]:
    """Return the norm of x + skip + bias and, as the fourth, the sum; what is between them is no kernel's business."""
    total = x + skip if bias is None else x + skip + bias
    return functional.layer_norm(total, total.shape[-1:], gamma, beta, epsilon), None, None, total


@op("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified_layer_norm(
    x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None, *, epsilon: float = 1e-12
) -> tuple[Tensor | None, ...]:
    """Return x + skip + bias over the root of its mean square, what it was multiplied with, and the sum."""
    total = x + skip if bias is None else x + skip + bias
    y, inverse = simplified_layer_norm(total, gamma, epsilon=epsilon)
    return y, None, inverse, total


@op("EmbedLayerNormalization", domain=MICROSOFT, ignores=("mask_index_type",))
def embed_layer_norm(
    tokens: Tensor,
    segments: Tensor | None,
    words: Tensor,
    positions: Tensor,
    parts: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    places: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the norm of the summed embeddings, how many tokens of each sample count, and the sum."""
    at = positions[: tokens.shape[1]] if places is None else functional.embedding(places, positions)
    total = functional.embedding(tokens, words) + at
    if segments is not None and parts is not None:
        total = total + functional.embedding(segments, parts)
    counted = tokens.new_zeros(tokens.shape[0]) if mask is None else (mask == 1).sum(1)
    y = functional.layer_norm(total, total.shape[-1:], gamma, beta, epsilon)
    return y, counted.to(torch.int32), total


@op("SkipGroupNorm", domain=MICROSOFT)
def skip_group_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    skip: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    activation: int = 0,
    channels_last: int = 1,
    epsilon: float = 1e-5,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """Return the norm over groups of channels of x + skip + bias, perhaps with a SiLU, and the sum."""
    last = -1 if channels_last else 1
    if skip is not None:
        x = (
            x + (skip[:, None, None] if channels_last else skip[..., None, None])
            if skip.dim() == 2
            else x + skip
        )
    if bias is not None:
        x = x + (bias if channels_last else bias[:, None, None])
    y = torch.group_norm(x.movedim(last, 1), groups, gamma.to(x.dtype), beta.to(x.dtype), epsilon)
    y = functional.silu(y) if activation else y
    return y.movedim(1, last), x


@op("GroupNorm", domain=MICROSOFT)
def group_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    *,
    activation: int = 0,
    channels_last: int = 1,
    epsilon: float = 1e-5,
    groups: int,
) -> Tensor:
    """Return the norm over groups of channels, perhaps with a SiLU."""
    return skip_group_norm(
        x, gamma, beta, activation=activation, channels_last=channels_last, epsilon=epsilon, groups=groups
    )[0]
