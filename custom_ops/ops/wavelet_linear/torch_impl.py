"""WaveletLinear in torch: gradients reach the diagonals and both pairs of filters."""

import torch
from torch.nn import functional as F  # noqa: N812 - the name everybody knows it by


def torch_impl(
    x: torch.Tensor,
    before: torch.Tensor,
    analysis: torch.Tensor,
    permutation: torch.Tensor,
    middle: torch.Tensor,
    synthesis: torch.Tensor,
    after: torch.Tensor,
    bias: torch.Tensor,
    *,
    size: int,
    levels: int,
) -> torch.Tensor:
    """Return the layer's output [..., out]."""
    lead, taps = x.shape[:-1], analysis.shape[1]
    # Not reshape(-1, ...): an empty batch leaves nothing to tell -1 from.
    low = F.pad((x * before).reshape(lead.numel(), 1, x.shape[-1]), (0, size - x.shape[-1]))
    split, join = analysis.flip(1)[:, None], synthesis[:, None]
    lengths, highs = [size], []
    for _ in range(levels):
        halves = F.conv1d(F.pad(low, (taps - 2, taps - 1)), split, stride=2)
        low, high = halves[:, :1], halves[:, 1:]
        highs.append(high)
        lengths.append(low.shape[-1])
    mixed = torch.cat([*highs, low], -1)[..., permutation] * middle
    *parts, low = mixed.split([*lengths[1:], lengths[-1]], -1)
    for high, length in zip(reversed(parts), reversed(lengths[:-1]), strict=True):
        whole = F.conv_transpose1d(torch.cat([low, high], 1), join, stride=2)
        low = whole[..., taps - 2 : taps - 2 + length]
    return (low[..., : len(after)] * after + bias).reshape(*lead, len(after))
