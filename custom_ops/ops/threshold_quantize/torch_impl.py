"""ThresholdQuantize in torch. Counts carry no gradient: training puts a line in their place (LearnedThresholds)."""

import torch


def torch_impl(x: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """Return the counts of `thresholds` [m] or [C, m] that numbers of `x` [N, C, ...] exceed, [same shape]."""
    ones = [1] * (x.ndim - 2)
    codes = torch.zeros(x.shape, dtype=torch.uint8, device=x.device)
    for place in range(thresholds.shape[-1]):
        one = thresholds[..., place]
        codes += x > (one if thresholds.ndim == 1 else one.reshape(-1, *ones))
    return codes
