"""Convolutions and their transposes."""

from collections.abc import Callable, Sequence

import torch
from torch import fx
from torch.nn import functional

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.windows import SAME, Windows, padded, padding, windows_of

CONV: tuple[Callable[..., torch.Tensor], ...] = (torch.conv1d, torch.conv2d, torch.conv3d)
TRANSPOSED: tuple[Callable[..., torch.Tensor], ...] = (
    torch.conv_transpose1d,
    torch.conv_transpose2d,
    torch.conv_transpose3d,
)


@lowers("Conv")
def conv(site: Site) -> fx.Node:
    """Write a convolution as torch's own, which pads equally on both sides; other pads are put on before it."""
    windows = _windows(site)
    x, weight, bias, group = site.tensor(0), site.tensor(1), site.tensor(2), site.integer("group", 1)
    fixed, both = windows.fixed(), windows.symmetric()
    if fixed is None:
        return site.call(conv_by_size, x, weight, bias, windows, group)
    if both is None:
        x, both = site.call(functional.pad, x, padding(*fixed)), (0,) * windows.rank
    return site.call(CONV[windows.rank - 1], x, weight, bias, windows.strides, both, windows.dilations, group)


def conv_by_size(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, windows: Windows, group: int
) -> torch.Tensor:
    """Convolve with padding that depends on the size of the image."""
    if not windows.kernel:
        windows = windows._replace(kernel=tuple(weight.shape[2:]))
    run = CONV[windows.rank - 1]
    return run(padded(x, windows), weight, bias, windows.strides, 0, windows.dilations, group)


@lowers("ConvTranspose")
def conv_transpose(site: Site) -> fx.Node:
    """Write a transposed convolution as torch's own where its padding is the same on both sides."""
    windows = _windows(site)
    x, weight, bias, group = site.tensor(0), site.tensor(1), site.tensor(2), site.integer("group", 1)
    extra = site.integers("output_padding") or (0,) * windows.rank
    wanted = site.integers("output_shape")[-windows.rank :]
    both = windows.symmetric() if windows.auto not in SAME and not wanted else None
    fits = all(e < max(s, d) for e, s, d in zip(extra, windows.strides, windows.dilations, strict=True))
    if both is None or not fits:
        return site.call(conv_transpose_cut, x, weight, bias, windows, group, extra, wanted)
    run = TRANSPOSED[windows.rank - 1]
    return site.call(run, x, weight, bias, windows.strides, both, extra, group, windows.dilations)


def conv_transpose_cut(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    windows: Windows,
    group: int,
    extra: Sequence[int],
    wanted: Sequence[int],
) -> torch.Tensor:
    """Convolve without padding and cut to size; places that no window reaches hold the bias alone."""
    run, rank = TRANSPOSED[windows.rank - 1], windows.rank
    full = run(x, weight, None, windows.strides, 0, 0, group, windows.dilations)
    before, after = [], []
    for axis in range(rank):
        there = full.shape[2 + axis]
        if wanted or windows.auto in SAME:
            size = wanted[axis] if wanted else x.shape[2 + axis] * windows.strides[axis]
            total = torch.sym_max(0, there + extra[axis] - size)
            less = total // 2
            first = less if windows.auto == "SAME_UPPER" else total - less
        else:
            first, last = (
                (0, 0) if windows.auto == "VALID" else (windows.pads[axis], windows.pads[rank + axis])
            )
            size = there + extra[axis] - first - last
        before.append(-first)
        after.append(size - there + first)
    cut = functional.pad(full, padding(before, after))
    return cut if bias is None else cut + bias.reshape(-1, *(1,) * rank)


@op("CausalConvWithState")
def causal_conv_with_state(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    past: torch.Tensor | None = None,
    *,
    activation: str = "none",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Convolve each channel [batch, channels, time] with what came before, and hand on what the next call needs."""
    carried = weight.shape[2] - 1
    joined = functional.pad(x, (carried, 0)) if past is None else torch.cat((past, x), 2)
    y = torch.conv1d(joined, weight, bias, groups=weight.shape[0])
    if activation in ("silu", "swish"):
        y = functional.silu(y)
    return y, joined[:, :, joined.shape[2] - carried :]


def _windows(site: Site) -> Windows:
    """Return how the weight slides; its rank is the weight's, or the image's where that alone is known."""
    image, weight = site.shape(0), site.shape(1)
    rank = len(site.integers("kernel_shape") or (weight or image or ())[2:])
    if not 1 <= rank <= len(CONV):
        site.refuse(f"torch convolves over one to three axes, and here they are {rank or 'not known'}")
    return windows_of(site, rank, () if weight is None else weight[2:])
