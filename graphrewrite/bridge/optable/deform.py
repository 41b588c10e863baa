"""Convolution whose weights read at shifted places."""

from itertools import product

import torch

from graphrewrite.bridge.forms import op


@op("DeformConv", since=19, ignores=("kernel_shape",))
def deform_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    *,
    group: int = 1,
    offset_group: int = 1,
    strides: tuple[int, ...] = (),
    pads: tuple[int, ...] = (),
    dilations: tuple[int, ...] = (),
) -> torch.Tensor:
    """Convolve [batch, channels, ...] where each weight reads between the pixels, at its place plus an offset.

    `offset` is [batch, offset_group * weights * axes, ...out], `mask` [batch, offset_group * weights, ...out] scales
    what is read. Pixels outside the image are zero (Dai et al. 2017; Zhu et al. 2018 for the mask).
    """
    rank = x.dim() - 2
    kernel, out = weight.shape[2:], offset.shape[2:]
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    pads = pads or (0,) * (2 * rank)
    taps = kernel.numel()
    shift = offset.reshape(x.shape[0], offset_group, taps, rank, -1)  # [batch, groups, weights, axes, places]
    places = []
    for axis in range(rank):
        start = torch.arange(out[axis], device=x.device) * strides[axis] - pads[axis]
        step = torch.arange(kernel[axis], device=x.device) * dilations[axis]
        by_tap = _spread(step, axis, kernel)[:, None]
        places.append(shift[:, :, :, axis] + (by_tap + _spread(start, axis, out)))
    read = _read(x.reshape(x.shape[0], offset_group, -1, *x.shape[2:]), places)
    if mask is not None:
        read = read * mask.reshape(x.shape[0], offset_group, 1, taps, -1)
    columns = read.reshape(
        x.shape[0], group, -1, read.shape[-1]
    )  # [batch, groups, channels * weights, places]
    y = torch.matmul(weight.reshape(group, weight.shape[0] // group, -1), columns)
    y = y.reshape(x.shape[0], weight.shape[0], *out)
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def _spread(values: torch.Tensor, axis: int, sizes: torch.Size) -> torch.Tensor:
    """Return numbers of one axis for all places of a box, in one row."""
    return values.reshape(-1, *(1,) * (len(sizes) - 1 - axis)).expand(sizes).flatten()


def _read(x: torch.Tensor, places: list[torch.Tensor]) -> torch.Tensor:
    """Return [batch, groups, channels, weights, places], read linearly between the pixels of each group's images."""
    sizes, flat = x.shape[3:], x.flatten(3)
    lows = [place.detach().floor() for place in places]
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for corner in product((0, 1), repeat=len(places)):
        index = torch.zeros((), dtype=torch.int64, device=x.device)
        share = torch.ones((), dtype=x.dtype, device=x.device)
        for place, low, size, after in zip(places, lows, sizes, corner, strict=True):
            pixel = low.long() + after
            there = (pixel >= 0) & (pixel < size)
            part = place - low if after else 1.0 - (place - low)
            share = share * part * there
            index = index * size + pixel.clamp(0, size - 1)
        picked = flat.gather(3, index.flatten(2)[:, :, None].expand(-1, -1, flat.shape[2], -1))
        total = total + picked.unflatten(3, index.shape[2:]) * share[:, :, None]
    return total
