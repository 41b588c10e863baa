"""Numbers on an even grid between two ends that are learned, or that the largest weight sets."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Lowered, check_bits, straight_through, transforms
from graphrewrite.bridge.transforms.grids import rounded_onto, stored_codes
from graphrewrite.bridge.transforms.step import SMALLEST
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array


@transforms.register("clip_quantize")
@dataclass(frozen=True)
class ClipQuantize:
    """round(clip(x, -a, a) q / a) a / q with q = 2^(bits - 1) - 1 (Li et al. 2020).

    The end `a` of an activation is learned. For the first `warmup` of a stage's steps it is instead a running mean,
    of which `decay` is kept at each step, of the largest magnitude of each sample, and nothing is cut off. The end of
    a weight is its largest magnitude, always.
    """

    bits: int = 8
    warmup: float = 0.0
    decay: float = 0.9997
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        check_bits("ClipQuantize", self.bits)
        if not 0 <= self.warmup < 1 or not 0 <= self.decay < 1:
            raise InvalidConfig(
                f"ClipQuantize has warmup {self.warmup} and decay {self.decay}; both are shares from 0 to below 1; "
                "correct them"
            )

    @property
    def highest(self) -> int:
        """The code of the upper end; the lower end has the same below zero."""
        return int(2 ** (self.bits - 1) - 1)

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the rounding of a weight by its largest magnitude, or of an activation by a learned one."""
        return WholeRange(self.highest) if weight is not None else Ends(self.highest, self.warmup, self.decay)

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return codes and their step, or the nodes that find them."""
        top = np.float32(self.highest)
        if weight is None:
            end = np.maximum(np.abs(state["end"]), np.float32(SMALLEST))
            return Lowered(draw=rounded_onto(end / top, -self.highest, self.highest))
        values = np.asarray(weight, np.float32)
        step = (np.abs(values).max(initial=0.0) + np.float32(SMALLEST)) / top
        return stored_codes(np.rint(values / step).astype(np.int8), step, None)


class WholeRange(nn.Module):
    """Rounds to `highest` steps up to the largest magnitude; the gradient passes as it is."""

    def __init__(self, highest: int) -> None:
        super().__init__()
        self.highest = highest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [same shape]."""
        step = (x.detach().abs().max() + SMALLEST) / self.highest
        inside = x / step
        return straight_through(inside.round(), inside) * step


class Ends(nn.Module):
    """Rounds between two ends that are learned, once the warm-up is over."""

    def __init__(self, highest: int, warmup: float, decay: float) -> None:
        super().__init__()
        self.highest, self.warmup, self.decay = highest, warmup, decay
        self.end = nn.Parameter(torch.ones(()))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.is_warming = False

    def advance(self, done: float) -> None:
        """Watch while less than the warm-up lies behind, learn afterwards."""
        self.is_warming = done < self.warmup

    def watch(self, x: torch.Tensor) -> None:
        """Take the largest magnitudes [samples] of a batch into the running mean; the first batch is its start."""
        with torch.no_grad():
            seen = x.detach().float().abs().flatten(1).amax(dim=1) if x.ndim > 1 else x.detach().float().abs()
            seen = seen.mean() if seen.numel() else torch.zeros_like(self.end)
            self.end.copy_(self.decay * self.end + (1 - self.decay) * seen if bool(self.started) else seen)
            self.started.fill_(True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [same shape]."""
        is_watching = self.is_warming and self.training
        if is_watching or not bool(self.started):
            self.watch(x)
        end = self.end.abs().clamp_min(SMALLEST)
        if is_watching:
            end = end.detach()
        step = end / self.highest
        inside = x if is_watching else torch.where(x.abs() < end, x, end * x.sign())
        inside = inside / step
        return straight_through(inside.round(), inside) * step
