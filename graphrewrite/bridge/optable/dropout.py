"""Dropout: left out while the module is in evaluation, at work while it trains."""

import numpy as np
import torch
from torch import nn

from graphrewrite.bridge.forms import op

_RATIO = 0.5


@op("Dropout", since=12, host=("ratio", "training_mode"))
class Dropout(nn.Module):
    """Drops numbers while the module trains, and in evaluation where the graph itself says so.

    In evaluation a seed draws what onnx's reference draws for it, so that both agree; training uses torch's generator.
    """

    def __init__(self, *, seed: int | None = None) -> None:
        super().__init__()
        self.seed = seed

    def forward(
        self, data: torch.Tensor, ratio: float | None = None, training_mode: bool | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the numbers that are kept, scaled up, and where they are."""
        ratio = _RATIO if ratio is None else ratio
        if self.training:
            return dropped(data, ratio)
        if not training_mode or ratio == 0:
            return data, torch.ones_like(data, dtype=torch.bool)
        if self.seed is None:
            return dropped(data, ratio)
        drawn = np.random.RandomState(self.seed).uniform(0, 1, tuple(data.shape))
        kept = torch.from_numpy(np.asarray(drawn >= ratio)).to(data.device)
        return data * kept / (1 - ratio), kept


@op("Dropout", since=7)
class DropoutByAttribute(nn.Module):
    """Drops numbers while the module trains."""

    def __init__(self, *, ratio: float = _RATIO) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the numbers that are kept, scaled up, and where they are."""
        if self.training:
            return dropped(data, self.ratio)
        return data, torch.ones_like(data, dtype=torch.bool)


def dropped(data: torch.Tensor, ratio: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return numbers kept with the probability 1 - ratio and scaled up by what is lost, and where they are."""
    kept, mask = torch.native_dropout(data, ratio, True)
    return kept, mask
