"""Numbers on an even grid that reaches from the smallest to the largest, with zero on it."""

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


@transforms.register("span_quantize")
@dataclass(frozen=True)
class SpanQuantize:
    """2^bits codes over [min, max], zero included, with a whole zero point (Jacob et al. 2018, equation 1).

    A weight's span is its own at any time, one for all or one for each position of `axis`. An activation's is a running
    one, of which `kept` stays at each step, for the first `watch` of a stage's steps, and fixed from then on; it starts
    with the first batch. Gradients pass as they are, also where something is cut off.
    """

    bits: int = 8
    axis: int | None = None
    watch: float = 1.0
    kept: float = 0.9
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        check_bits("SpanQuantize", self.bits)
        if not 0 <= self.watch <= 1 or not 0 <= self.kept < 1:
            raise InvalidConfig(
                f"SpanQuantize has watch {self.watch} and kept {self.kept}; expected shares of 1, kept below it; "
                "correct them"
            )

    @property
    def highest(self) -> int:
        """The last code; the first is 0."""
        return int(2**self.bits - 1)

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the grid over a weight's own span, or over a running one."""
        if weight is None:
            return Watched(self.highest, self.watch, self.kept)
        return Own(self.highest, None if self.axis is None else self.axis % weight.ndim)

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return codes with their steps and zero points, or the nodes that find them."""
        if weight is None:
            step, zero = grid(torch.tensor(state["low"]), torch.tensor(state["high"]), self.highest)
            return Lowered(draw=rounded_onto(step.numpy(), 0, self.highest, zero.to(torch.uint8).numpy()))
        values = torch.tensor(np.asarray(weight, np.float32))
        axis = None if self.axis is None else self.axis % values.ndim
        step, zero = grid(*spans(values, axis), self.highest)
        codes = ((values / step).round() + zero).clamp(0, self.highest).to(torch.uint8).numpy()
        shape = () if axis is None else (-1,)
        points = zero.to(torch.uint8).numpy().reshape(shape)
        return stored_codes(codes, step.numpy().reshape(shape), axis, points)


def spans(x: torch.Tensor, axis: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the smallest and largest number, over all or by position of `axis`, broadcastable to x."""
    over = [each for each in range(x.ndim) if each != axis]
    if not over or not x.numel():
        return (x, x) if x.numel() else (x.new_zeros(()), x.new_zeros(()))
    return x.amin(dim=over, keepdim=axis is not None), x.amax(dim=over, keepdim=axis is not None)


def grid(low: torch.Tensor, high: torch.Tensor, highest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the step of a grid over a span, widened to hold zero, and the code of zero."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    step = ((high - low) / highest).clamp_min(SMALLEST)
    return step, (-low / step).round()


def rounded(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, highest: int) -> torch.Tensor:
    """Return the nearest numbers of the grid over a span; the gradient passes as it is."""
    with torch.no_grad():
        step, zero = grid(low, high, highest)
        found = (((x / step).round() + zero).clamp(0, highest) - zero) * step
    return straight_through(found, x)


class Own(nn.Module):
    """Rounds onto the span of what comes in."""

    def __init__(self, highest: int, axis: int | None) -> None:
        super().__init__()
        self.highest, self.axis = highest, axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [same shape]."""
        return rounded(x, *spans(x.detach(), self.axis), self.highest)


class Watched(nn.Module):
    """Rounds onto a running span."""

    def __init__(self, highest: int, watch: float, kept: float) -> None:
        super().__init__()
        self.highest, self.watch, self.kept = highest, watch, kept
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.is_watching = watch > 0

    def advance(self, done: float) -> None:
        """Stop watching when the share of steps is over."""
        self.is_watching = done < self.watch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [same shape]."""
        if not bool(self.started) or (self.training and self.is_watching):
            with torch.no_grad():
                for end, seen in zip((self.low, self.high), spans(x.detach(), None), strict=True):
                    end.copy_(self.kept * end + (1 - self.kept) * seen if bool(self.started) else seen)
                self.started.fill_(True)
        return rounded(x, self.low, self.high, self.highest)
