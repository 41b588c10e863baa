"""Drawing binary layers as graphs in the wild have them: in standard operators."""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Builder


def signs(b: Builder, x: gs.Tensor, threshold: object = 0.0) -> gs.Variable:
    """Draw +1 where x reaches the threshold, else -1."""
    reached = b.op("GreaterOrEqual", x, b.constant(np.asarray(threshold, np.float32)))
    return b.op("Where", reached, b.constant(np.float32(1)), b.constant(np.float32(-1)))


def sign_weight(b: Builder, *shape: int) -> gs.Constant:
    """File a random weight of +1 and -1."""
    return b.constant(b.rng.choice(np.array([-1, 1], np.float32), shape))


def binary_conv(
    b: Builder,
    x: gs.Tensor,
    out: int,
    into: int,
    kernel: int = 3,
    pad: int = 1,
    name: str | None = None,
    **attrs: object,
) -> gs.Variable:
    """Draw a convolution with weights of +1 and -1; `x` are signs already."""
    group = int(str(attrs.get("group", 1)))
    weight = sign_weight(b, out, into // group, kernel, kernel)
    return b.op("Conv", x, weight, name=name, pads=[pad] * 4, **attrs)  # type: ignore[arg-type]


def planes(b: Builder, channels: int, around: float = 0.0, spread: float = 1.0) -> gs.Constant:
    """File random numbers, one per channel of a picture."""
    values = around + spread * b.rng.standard_normal((channels, 1, 1))
    return b.constant(values.astype(np.float32))


def rprelu(b: Builder, x: gs.Tensor, channels: int) -> gs.Variable:
    """Draw a shift, a rectifier with a slope per channel, and another shift."""
    shifted = b.op("Sub", x, planes(b, channels))
    slope = b.constant(np.abs(b.rng.standard_normal((channels, 1, 1))).astype(np.float32) * 0.3)
    return b.op("Add", b.op("PRelu", shifted, slope), planes(b, channels))
