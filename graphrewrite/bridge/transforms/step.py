"""Numbers on an even grid whose step is learned with the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Lowered, check_bits, straight_through, transforms
from graphrewrite.bridge.transforms.grids import rounded_onto, stored_codes
from graphrewrite.ir import Array

SMALLEST = 1e-8  # an optimiser may carry the step through zero


@transforms.register("step_quantize")
@dataclass(frozen=True)
class StepQuantize:
    """round(clip(x / step)) * step with a learned step (Esser et al. 2020, equations 1 to 3 and section 2.2).

    `bits` from 2 to 8; `signed` for weights and for activations that go below zero, without it the grid starts at zero.
    A weight has one step, or one for each position of `axis`; it becomes int8 (uint8) numbers and DequantizeLinear, an
    activation QuantizeLinear and DequantizeLinear. The step of an activation starts from the first batch it sees.
    """

    bits: int = 8
    signed: bool = True
    axis: int | None = None
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        check_bits("StepQuantize", self.bits)

    @property
    def range(self) -> tuple[int, int]:
        """The lowest and the highest number of the grid, in steps."""
        return (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1) if self.signed else (0, 2**self.bits - 1)

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the grid, its step set from the weight."""
        if weight is None:
            return Grid(*self.range)
        axis = None if self.axis is None else self.axis % weight.ndim
        made = Grid(*self.range, axis, 1 if axis is None else weight.shape[axis])
        made.start(weight)
        return made

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the numbers of the grid and what multiplies them, or the nodes that find them."""
        low, high = self.range
        step = np.maximum(np.abs(state["step"]), np.float32(SMALLEST))
        if weight is None:
            return Lowered(draw=rounded_onto(step, low, high))
        values = np.asarray(weight, np.float32)
        axis = None if self.axis is None else self.axis % values.ndim
        spread = (
            step if axis is None else step.reshape([-1 if each == axis else 1 for each in range(values.ndim)])
        )
        whole = np.rint(np.clip(values / spread, low, high))
        return stored_codes(whole.astype(np.int8 if self.signed else np.uint8), step, axis)


def first_step(x: torch.Tensor, high: int, axis: int | None = None) -> torch.Tensor:
    """Return the step to start with, twice the mean magnitude over the root of the highest number: [] or [channels]."""
    others = [each for each in range(x.ndim) if each != axis]
    sizes = x.detach().float().abs()
    mean = sizes.mean() if axis is None else sizes.mean(dim=others) if others else sizes
    return 2 * mean.clamp_min(torch.finfo(torch.float32).tiny) / sqrt(high)


class Grid(nn.Module):
    """A grid from `low` to `high` steps; rounding passes the gradient on, the step gets its own, scaled down."""

    def __init__(self, low: int, high: int, axis: int | None = None, channels: int = 1) -> None:
        super().__init__()
        self.low, self.high, self.axis = low, high, axis
        self.step = nn.Parameter(torch.ones(()) if axis is None else torch.ones(channels))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def start(self, x: torch.Tensor) -> None:
        """Set the step from the numbers that are to be rounded."""
        with torch.no_grad():
            self.step.copy_(first_step(x, self.high, self.axis))
            self.started.fill_(True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the nearest number of the grid, [same shape]."""
        if not bool(self.started):
            self.start(x)
        # A step's gradient is a sum over all its numbers: without this factor it would outrun the weights.
        scale = 1 / sqrt(max(1, x.numel() // self.step.numel()) * self.high)
        step = self.step.abs().clamp_min(SMALLEST)
        step = straight_through(step, step * scale)
        if self.axis is not None:
            step = step.reshape([-1 if each == self.axis else 1 for each in range(x.ndim)])
        inside = (x / step).clamp(self.low, self.high)
        return straight_through(inside.round(), inside) * step
