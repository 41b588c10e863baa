"""A small net that draws images of a class."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

NOISE = 100


class ClassNorm(nn.Module):
    """Batch norm whose scale and shift belong to a class."""

    def __init__(self, channels: int, classes: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=eps, affine=False)
        self.scale = nn.Embedding(classes, channels)
        self.shift = nn.Embedding(classes, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return [same shape] for labels [samples]."""
        scale, shift = self.scale(labels)[..., None, None], self.shift(labels)[..., None, None]
        found: torch.Tensor = self.norm(x) * scale + shift
        return found


class Generator(nn.Module):
    """Noise and labels to images: a dense layer, then twice up by two, after Xu et al. (2020) as FDDA takes it.

    Args:
        classes: how many labels there are.
        sizes: channels, height and width of an image.
        mean: of each channel of the images to imitate.
        deviation: of each channel; the last norm gives this spread, whatever the net draws.
        width: channels inside; half of them at full size.
    """

    def __init__(
        self,
        classes: int,
        sizes: Sequence[int],
        mean: torch.Tensor,
        deviation: torch.Tensor,
        width: int = 128,
    ) -> None:
        super().__init__()
        channels, height, wide = sizes
        self.sizes = (height, wide)
        self.start = (width, -(-height // 4), -(-wide // 4))
        self.dense = nn.Linear(NOISE, width * self.start[1] * self.start[2])
        self.first = ClassNorm(width, classes)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.second = ClassNorm(width, classes, eps=0.8)
        self.conv2 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.third = ClassNorm(width // 2, classes, eps=0.8)
        self.conv3 = nn.Conv2d(width // 2, channels, 3, padding=1)
        self.last = nn.BatchNorm2d(channels, affine=False)
        self.register_buffer("mean", mean.reshape(-1, 1, 1))
        self.register_buffer("deviation", deviation.reshape(-1, 1, 1))

    def forward(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return images [samples, channels, height, width] for noise [samples, 100] and labels [samples]."""
        x = self.first(self.dense(noise).reshape(-1, *self.start), labels)
        x = functional.leaky_relu(self.second(self.conv1(_twice(x)), labels), 0.2)
        x = functional.leaky_relu(self.third(self.conv2(_twice(x)), labels), 0.2)
        x = self.last(torch.tanh(self.conv3(x[..., : self.sizes[0], : self.sizes[1]])))
        found: torch.Tensor = x * self.deviation + self.mean
        return found


def _twice(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2.0)
