"""Numbers on an even grid whose step is learned with the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Draw, Lowered, straight_through, transforms
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Builder

_SMALLEST = 1e-8  # an optimiser may carry the step through zero


@transforms.register("step_quantize")
@dataclass(frozen=True)
class StepQuantize:
    """round(clip(x / step)) * step with a learned step (Esser et al. 2020, equations 1 to 3 and section 2.2).

    `bits` from 2 to 8; `signed` for weights and for activations that go below zero, without it the grid starts at zero.
    A weight becomes int8 (uint8) numbers and DequantizeLinear, an activation QuantizeLinear and DequantizeLinear. The
    step of an activation starts from the first batch it sees.
    """

    bits: int = 8
    signed: bool = True
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise InvalidConfig(f"StepQuantize.bits is {self.bits}; it must be from 2 to 8; correct it")

    @property
    def range(self) -> tuple[int, int]:
        """The lowest and the highest number of the grid, in steps."""
        return (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1) if self.signed else (0, 2**self.bits - 1)

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the grid, its step set from the weight."""
        made = Grid(*self.range)
        if weight is not None:
            made.start(weight)
        return made

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the numbers of the grid and what multiplies them, or the nodes that find them."""
        low, high = self.range
        stored = np.dtype(np.int8 if self.signed else np.uint8)
        step = np.maximum(np.abs(state["step"]), np.float32(_SMALLEST))
        if weight is None:
            return Lowered(draw=_behind_activation(step, low, high, stored))
        whole = np.rint(np.clip(np.asarray(weight, np.float32) / step, low, high)).astype(stored)
        return Lowered(
            weight=whole,
            draw=lambda b, x: b.op("DequantizeLinear", x, b.constant(step), b.constant(np.zeros((), stored))),
        )


def _behind_activation(step: Array, low: int, high: int, stored: np.dtype[np.generic]) -> Draw:
    def draw(b: Builder, x: gs.Tensor) -> gs.Tensor:
        if high - low < 255:
            x = b.op("Clip", x, b.constant(low * step), b.constant(high * step))
        zero, scale = b.constant(np.zeros((), stored)), b.constant(step)
        return b.op("DequantizeLinear", b.op("QuantizeLinear", x, scale, zero), scale, zero)

    return draw


class Grid(nn.Module):
    """A grid from `low` to `high` steps; rounding passes the gradient on, the step gets its own, scaled down."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.step = nn.Parameter(torch.ones(()))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def start(self, x: torch.Tensor) -> None:
        """Set the step to twice the mean magnitude over the root of the highest number."""
        with torch.no_grad():
            mean = x.detach().float().abs().mean().clamp_min(torch.finfo(torch.float32).tiny)
            self.step.copy_(2 * mean / sqrt(self.high))
            self.started.fill_(True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the nearest number of the grid, [same shape]."""
        if not bool(self.started):
            self.start(x)
        # The step's gradient is a sum over all numbers: without this factor it would outrun the weights.
        scale = 1 / sqrt(max(1, x.numel()) * self.high)
        step = self.step.abs().clamp_min(_SMALLEST)
        step = straight_through(step, step * scale)
        inside = (x / step).clamp(self.low, self.high)
        return straight_through(inside.round(), inside) * step
