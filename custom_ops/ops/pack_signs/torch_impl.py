"""PackSigns in torch. Bits carry no gradient: training keeps signs as numbers and packs them when it is over."""

import torch


def torch_impl(x: torch.Tensor) -> torch.Tensor:
    """Return the signs of `x` [N, C, ...] as words [N, ..., ceil(C / 32)]."""
    channels_last = torch.movedim(x >= 0, 1, -1).long()
    words = -(-x.shape[1] // 32)
    filled = torch.nn.functional.pad(channels_last, (0, words * 32 - x.shape[1]))
    powers = 2 ** torch.arange(32, device=x.device)
    return (filled.reshape(*filled.shape[:-1], words, 32) * powers).sum(-1).to(torch.uint32)
