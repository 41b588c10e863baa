"""Evenly spaced levels behind thresholds that are learned: rounding that is uneven on one side only."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Lowered, check_bits, straight_through, transforms
from graphrewrite.bridge.transforms.step import SMALLEST, first_step
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Builder


@transforms.register("learned_thresholds")
@dataclass(frozen=True)
class LearnedThresholds:
    """How many of 2^bits - 1 learned thresholds a number exceeds, times a learned scale (Liu et al. 2022).

    The gradient is that of the line through the ends of the intervals that the thresholds halve: the mean of a
    rounding that chooses between two neighbours by chance. Intervals stay at least `narrowest` wide, the average one
    being 2 / (2^bits - 1). `signed` lets half of the levels lie below zero. Scales start from the first batch, so that
    at first it rounds evenly. An activation becomes comparisons and a sum, with DequantizeLinear behind.
    """

    bits: int = 2
    signed: bool = False
    narrowest: float = 1e-3
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        check_bits("LearnedThresholds", self.bits, 1)
        if not 0 < self.narrowest < 1 / (2**self.bits - 1):
            raise InvalidConfig(
                f"LearnedThresholds.narrowest is {self.narrowest}; expected a number above 0 and below half an average "
                f"interval, {1 / (2**self.bits - 1):.3g}; try 0.001"
            )

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the thresholds of an activation."""
        if weight is not None:
            raise InvalidConfig(
                "LearnedThresholds was put behind a weight; expected the name of an activation; take LevelQuantize "
                "for weights"
            )
        return Thresholds(self.bits, self.signed, self.narrowest)

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the nodes that compare, count and scale."""
        found = Thresholds(self.bits, self.signed, self.narrowest)
        found.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
        thresholds, step = found.thresholds().detach().numpy(), found.step().detach().numpy()
        zero = np.array(found.zero, np.uint8)

        def draw(b: Builder, x: gs.Tensor) -> gs.Tensor:
            last = b.constant(np.array([-1]))
            above = b.op("Greater", b.op("Unsqueeze", x, last), b.constant(thresholds))
            count = b.op("ReduceSum", b.op("Cast", above, to=6), last, keepdims=0)
            return b.op("DequantizeLinear", b.op("Cast", count, to=2), b.constant(step), b.constant(zero))

        return Lowered(draw=draw)


class Thresholds(nn.Module):
    """Counts the thresholds below each number.

    Attributes:
        start, widths: where the first interval starts, and how wide each is, in numbers scaled by `into`.
        into, out: what numbers are multiplied with before, and levels behind.
        zero: the count that stands for zero.
    """

    def __init__(self, bits: int, signed: bool, narrowest: float) -> None:
        super().__init__()
        self.count = 2**bits - 1
        self.zero = 2 ** (bits - 1) if signed else 0
        self.narrowest = narrowest
        self.between = 2 / self.count
        self.start = nn.Parameter(torch.tensor(-self.zero * self.between))
        self.widths = nn.Parameter(torch.full((self.count,), self.between))
        self.into = nn.Parameter(torch.ones(()))
        self.out = nn.Parameter(torch.ones(()))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def step(self) -> torch.Tensor:
        """Return the distance of two levels."""
        return self.out.abs().clamp_min(SMALLEST) * self.between

    def intervals(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return where each interval starts and how wide it is, [count] both."""
        widths = self.widths.clamp_min(self.narrowest)
        ends = self.start + widths.cumsum(0)
        return torch.cat([self.start.reshape(1), ends[:-1]]), widths

    def thresholds(self) -> torch.Tensor:
        """Return the middles of the intervals, [count], as numbers that are not scaled."""
        starts, widths = self.intervals()
        return (starts + widths / 2) / self.into.abs().clamp_min(SMALLEST)

    def begin(self, x: torch.Tensor) -> None:
        """Set both scales so that numbers are rounded to the nearest level."""
        with torch.no_grad():
            step = first_step(x, self.count)
            self.into.copy_(self.between / step)
            self.out.copy_(step / self.between)
            self.started.fill_(True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return levels, [same shape]."""
        if not bool(self.started):
            self.begin(x)
        starts, widths = self.intervals()
        scaled = x * self.into.abs().clamp_min(SMALLEST)
        line = torch.zeros_like(scaled)
        count = torch.zeros_like(scaled)
        # One after the other: all at once would take `count` times the memory of the activation.
        for start, width, threshold in zip(starts, widths, self.thresholds().detach(), strict=True):
            line = line + ((scaled - start) / width).clamp(0, 1)
            count = count + (x > threshold)
        return (straight_through(count, line) - self.zero) * self.step()
