"""Norms over the numbers of one sample."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import fx
from torch.nn import functional

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.numbers import torch_type
from graphrewrite.bridge.site import Site


@lowers("LayerNormalization", since=17)
def layer_normalization(site: Site) -> fx.Node | list[fx.Node]:
    """Write torch's own norm where the weights have the shape it takes and nothing else is asked for."""
    x, scale, bias = site.tensor(0), site.tensor(1), site.tensor(2)
    axis, epsilon = site.integer("axis", -1), site.number("epsilon", 1e-5)
    sizes = _plain_sizes(site, axis)
    if site.outputs == 1 and sizes is not None:
        return site.call(torch.layer_norm, x, sizes, scale, bias, epsilon)
    stash = torch_type(site.integer("stash_type", 1))
    # A float32 graph that was moved to double precision keeps its statistics in it too.
    stored = None if stash == torch.float32 and site.dtype(0) != np.float64 else stash
    call = site.call(layer_norm_parts, x, scale, bias, axis, epsilon, stash, stored)
    return [site.item(call, i) for i in range(site.outputs)]


def layer_norm_parts(
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    axis: int,
    epsilon: float,
    stash: torch.dtype,
    stored: torch.dtype | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalize all axes from `axis` on in type `stash` at least; return also the mean and the inverse deviation.

    They come in type `stored`, or as they were computed.
    """
    wide = x.to(torch.promote_types(x.dtype, stash))
    var, mean = torch.var_mean(wide, _axes_from(x, axis), correction=0, keepdim=True)
    inverse = torch.rsqrt(var + epsilon)
    y = ((wide - mean) * inverse).to(x.dtype) * scale
    stored = stored or wide.dtype
    return y if bias is None else y + bias, mean.to(stored), inverse.to(stored)


@lowers("RMSNormalization", since=23)
def rms_normalization(site: Site) -> fx.Node:
    """Write torch's own norm where the weights have the shape it takes."""
    x, scale = site.tensor(0), site.tensor(1)
    axis, epsilon = site.integer("axis", -1), site.number("epsilon", 1e-5)
    sizes = _plain_sizes(site, axis)
    if sizes is not None:
        return site.call(torch.rms_norm, x, sizes, scale, epsilon)
    return site.call(rms_norm_wide, x, scale, axis, epsilon, torch_type(site.integer("stash_type", 1)))


def rms_norm_wide(
    x: torch.Tensor, scale: torch.Tensor, axis: int, epsilon: float, stash: torch.dtype
) -> torch.Tensor:
    """Divide by the root of the mean square over all axes from `axis` on."""
    wide = x.to(torch.promote_types(x.dtype, stash))
    square = (wide * wide).mean(_axes_from(x, axis), keepdim=True)
    return ((wide * torch.rsqrt(square + epsilon)).to(x.dtype) * scale).to(scale.dtype)


@op("InstanceNormalization", since=6)
def instance_normalization(
    x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, *, epsilon: float = 1e-5
) -> torch.Tensor:
    """Normalize each image of [batch, channels, ...]: groups of one channel, of which there may be none."""
    return torch.group_norm(x, x.shape[1], scale, bias, epsilon)


@op("GroupNormalization", since=18)
def group_normalization_by_group(
    x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, *, num_groups: int, epsilon: float = 1e-5
) -> torch.Tensor:
    """Normalize groups of channels; scale and bias hold a number for each group."""
    each = x.shape[1] // num_groups
    scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
    return torch.group_norm(x, num_groups, scale, bias, epsilon)


@op("GroupNormalization", since=21, ignores=("stash_type",))
def group_normalization(
    x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, *, num_groups: int, epsilon: float = 1e-5
) -> torch.Tensor:
    """Normalize groups of channels; scale and bias hold a number for each channel."""
    return torch.group_norm(x, num_groups, scale, bias, epsilon)


@op("MeanVarianceNormalization", since=9)
def mean_variance_normalization(x: torch.Tensor, *, axes: tuple[int, ...] = (0, 2, 3)) -> torch.Tensor:
    """Take away the mean and divide by the deviation; a constant is zero afterwards."""
    # The operator's own body adds this to the deviation.
    tiny = 1e-9
    return (x - x.mean(axes, keepdim=True)) / (x.std(axes, correction=0, keepdim=True) + tiny)


@op("LRN")
def lrn(
    x: torch.Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> torch.Tensor:
    """Divide by the squares of the channels around each; of an even number the odd one comes after."""
    before = (size - 1) // 2
    squares = (x * x).flatten(2).unsqueeze(1)  # [batch, 1, channels, places]
    squares = functional.pad(squares, (0, 0, before, size - 1 - before))
    mean = functional.avg_pool2d(squares, (size, 1), 1).reshape(x.shape)
    return x / (bias + alpha * mean) ** beta


def _axes_from(x: torch.Tensor, axis: int) -> list[int]:
    return list(range(axis % x.dim(), x.dim()))


def _plain_sizes(site: Site, axis: int) -> Sequence[int] | None:
    """Return the sizes that are normalized where the weights show them; None where weights may be broadcast."""
    image, scale = site.shape(0), site.shape(1)
    if axis >= 0 and image is None:
        return None
    count = -axis if axis < 0 else len(image or ()) - axis
    if scale is None or len(scale) != count or (site.has(2) and site.shape(2) != scale):
        return None
    sizes = tuple(size for size in scale if size is not None and size > 1)
    alike = len({str(site.dtype(slot)) for slot in range(len(site.inputs)) if site.has(slot)}) == 1
    return sizes if alike and len(sizes) == count else None


@op("LpNormalization")
def lp_normalization(x: torch.Tensor, *, axis: int = -1, p: int = 2) -> torch.Tensor:
    """Return x over its length along an axis; a vector of zeros stays."""
    length = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return x / torch.where(length == 0, 1, length)
