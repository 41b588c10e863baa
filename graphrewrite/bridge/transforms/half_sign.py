"""Codes of weights chosen by size instead of sign: large ones are +1, small ones -1."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Lowered, straight_through, transforms
from graphrewrite.bridge.transforms.latent import centred, put_back, settled, standardized, weight_only
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array


@transforms.register("half_sign")
@dataclass(frozen=True)
class HalfSign:
    """+1 for the larger half of a filter's |w|, -1 for the smaller; signs do not count (Lin et al. 2021).

    In each step the stored filter is centred, and the lowest and highest `percent` of a layer's |w| are set to where
    they begin; that share falls to 0 over the stage. `ones` is "half", which gives the most even codes, or "best": as
    many +1 as bring the {0, 1} code nearest to the direction of |w|.
    """

    percent: float = 15.0
    ones: Literal["half", "best"] = "half"
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.percent < 50 or self.ones not in ("half", "best"):
            raise InvalidConfig(
                f"HalfSign(percent={self.percent}, ones={self.ones!r}) cannot be; expected a share below 50 and "
                '"half" or "best"; correct it'
            )

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the trainable form of a weight, filters on its first axis."""
        weight_only(self, weight)
        return Halves(self.percent / 100, self.ones)

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the codes as the weight."""
        return settled(self, weight, state)


class Halves(nn.Module):
    """Codes by size; `share` of the sizes at either end is drawn in while the module trains."""

    def __init__(self, share: float, ones: str) -> None:
        super().__init__()
        self.first, self.ones = share, ones
        self.register_buffer("share", torch.tensor(share))

    def advance(self, done: float) -> None:
        """Draw in fewer sizes."""
        self.share.fill_(self.first * (1 - done))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return +1 and -1 in the shape of the weight."""
        if self.training:
            put_back(weight, drawn_in(centred(weight.detach()), float(self.share)))
        sizes = standardized(weight).abs()
        rows = sizes.detach().flatten(1)
        counts = most_like(rows) if self.ones == "best" else torch.full_like(rows[:, 0], rows.shape[1] // 2)
        return straight_through(2 * codes(rows, counts).reshape(weight.shape) - 1, sizes)


def drawn_in(weight: torch.Tensor, share: float) -> torch.Tensor:
    """Return a weight with the lowest and the highest share of its |w| set to where they begin, over all filters."""
    sizes = weight.abs().flatten().sort().values
    last = len(sizes) - 1
    low, high = sizes[round(share * last)], sizes[round((1 - share) * last)]
    return torch.where(weight < 0, -1.0, 1.0) * weight.abs().clamp(low, high)


def codes(sizes: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return 1.0 for the `counts` largest of each row of [filters, numbers], else 0.0; of equals the first wins."""
    order = sizes.argsort(dim=1, descending=True, stable=True)
    ranks = torch.empty_like(order).scatter_(
        1, order, torch.arange(sizes.shape[1], device=order.device).expand_as(order)
    )
    return (ranks < counts[:, None]).to(sizes.dtype)


def most_like(sizes: torch.Tensor) -> torch.Tensor:
    """Return for each row how many of its largest numbers make the {0, 1} code nearest to its direction.

    The best code of k ones marks the k largest; its cosine is their sum over sqrt(k) times the row's length.
    """
    sums = sizes.double().sort(dim=1, descending=True).values.cumsum(dim=1)
    counts = torch.arange(1, sizes.shape[1] + 1, dtype=torch.float64, device=sizes.device)
    return (sums / counts.sqrt()).argmax(dim=1) + 1
