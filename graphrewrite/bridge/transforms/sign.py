"""Signs instead of numbers, with a gradient that looks through them where they are near zero."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Lowered, straight_through, transforms
from graphrewrite.ir import Array, Builder


@transforms.register("sign")
@dataclass(frozen=True)
class Sign:
    """+1 where x >= 0, else -1; the gradient of y = x passes where |x| <= 1 (Hubara et al. 2016).

    A weight's signs are scaled by the mean |w| of each output, which lies on `axis` (Rastegari et al. 2016). With
    `holds_scale` that mean passes no gradient (Liu et al. 2020).
    """

    axis: int = 0
    holds_scale: bool = False
    tolerance: float = 1e-6

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the signs of an activation, or the scaled signs of a weight."""
        return Signs() if weight is None else ScaledSigns(self.axis % weight.ndim, self.holds_scale)

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the scaled signs as the weight; for an activation a comparison and a choice."""
        if weight is None:
            return Lowered(draw=draw_signs)
        others = tuple(axis for axis in range(weight.ndim) if axis != self.axis % weight.ndim)
        wide = weight.astype(np.float64)
        scale = np.abs(wide).mean(axis=others, keepdims=True).astype(np.float32)
        return Lowered(weight=np.where(wide >= 0, scale, -scale))


def draw_signs(b: Builder, x: gs.Tensor) -> gs.Tensor:
    """Draw a comparison with 0 and a choice of +1 or -1 behind a float32 tensor."""
    zero, one, minus = (b.constant(np.full((), number, np.float32)) for number in (0, 1, -1))
    return b.op("Where", b.op("GreaterOrEqual", x, zero), one, minus)


class Signs(nn.Module):
    """Signs, and the clipped gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return +1 and -1 in the shape of x."""
        return straight_through(plus_minus(x), x.clamp(-1, 1))


def plus_minus(x: torch.Tensor) -> torch.Tensor:
    """Return float32 +1 where x >= 0, and -1 elsewhere; -0.0 counts as 0."""
    return torch.where(x >= 0, 1.0, -1.0)


class ScaledSigns(Signs):
    """Signs times the mean magnitude of each output."""

    def __init__(self, axis: int, holds_scale: bool) -> None:
        super().__init__()
        self.axis = axis
        self.holds_scale = holds_scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one magnitude for each position of the axis."""
        others = [axis for axis in range(x.ndim) if axis != self.axis]
        scale = x.abs().mean(dim=others, keepdim=True) if others else x.abs()
        return super().forward(x) * (scale.detach() if self.holds_scale else scale)
