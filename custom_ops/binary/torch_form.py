"""Binary layers in torch. Gradients flow through signs where |x - threshold| <= 1 (the clipped straight-through rule).

Words carry no gradient: training keeps signs as numbers and packs them when it is over.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional


def signs(x: torch.Tensor, threshold: torch.Tensor, axis: int) -> torch.Tensor:
    """Return +1 where `x` reaches its channel's threshold, else -1."""
    shape = [1] * x.ndim
    shape[axis] = -1
    level = threshold.reshape(shape)
    # Adds nothing, for the gradient's sake alone; a distance that is no number must add nothing too.
    through = torch.nan_to_num(x - level).clamp(-1.0, 1.0)
    return torch.where(x >= level, 1.0, -1.0) + (through - through.detach())


def unpack(words: torch.Tensor, channels: int) -> torch.Tensor:
    """Return the first `channels` signs of words along the last axis, as +1 and -1."""
    bits = (words.to(torch.int64)[..., None] >> torch.arange(32, device=words.device)) & 1
    wide = bits.reshape(*words.shape[:-1], words.shape[-1] * 32)[..., :channels]
    return torch.where(wide > 0, 1.0, -1.0)


def pack(is_set: torch.Tensor) -> torch.Tensor:
    """Return truth values along the last axis as words."""
    channels = is_set.shape[-1]
    words = -(-channels // 32)
    filled = functional.pad(is_set.long(), (0, words * 32 - channels))
    grouped = filled.reshape(*filled.shape[:-1], words, 32)
    return (grouped * 2 ** torch.arange(32, device=is_set.device)).sum(-1).to(torch.uint32)


def conv_sums(
    x: torch.Tensor,
    weight: torch.Tensor,
    *,
    channels: int,
    group: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> torch.Tensor:
    """Return the sums [N, O, OH, OW] of signs `x` [N, C, H, W] under packed weights [O, height, width, words]."""
    kernel = unpack(weight, channels // group).movedim(-1, 1)
    top, left, bottom, right = pads
    padded = functional.pad(x, (left, right, top, bottom))
    return functional.conv2d(padded, kernel, None, tuple(strides), 0, tuple(dilations), group)


def mat_mul_sums(x: torch.Tensor, weight: torch.Tensor, *, channels: int) -> torch.Tensor:
    """Return the sums [..., O] of signs `x` [..., C] under packed weights [O, words]."""
    return x @ unpack(weight, channels).T


def numbers(sums: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, axis: int) -> torch.Tensor:
    """Return sum * scale + bias, outputs along `axis`."""
    shape = [1] * sums.ndim
    shape[axis] = -1
    return sums * scale.reshape(shape) + bias.reshape(shape)


def bits(sums: torch.Tensor, threshold: torch.Tensor, axis: int) -> torch.Tensor:
    """Return which sums reach their output's threshold as words, outputs last."""
    return pack(sums.movedim(axis, -1) >= threshold)
