"""Whole numbers times a step, as nodes: what the transforms that round onto an even grid are lowered to."""

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.bridge.transforms.base import Draw, Lowered
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Builder

_OLDEST_OPSET = 13  # scales per channel, and Clip of integers


def stored_codes(
    codes: npt.NDArray[np.generic], step: Array, axis: int | None, zero: Array | None = None
) -> Lowered:
    """Return codes [weight's shape] for a weight, with a step for all or, on `axis`, [channels] of them.

    `zero` has the codes that stand for zero, one for each step; left out, they are 0.
    """
    steps = np.asarray(step, np.float32)
    zeros = np.zeros(steps.shape, codes.dtype) if zero is None else np.asarray(zero, codes.dtype)

    def draw(b: Builder, x: gs.Tensor) -> gs.Tensor:
        scale, middle = b.constant(steps), b.constant(zeros)
        if axis is None:
            return b.op("DequantizeLinear", x, scale, middle)
        return b.op("DequantizeLinear", x, scale, middle, axis=axis)

    return Lowered(weight=codes, draw=draw)


def rounded_onto(step: Array, low: int, high: int, zero: Array | None = None) -> Draw:
    """Return what draws the rounding of an activation onto the codes `low` to `high`, of 8 bits.

    A code is a number of steps from `zero`, the code that stands for zero; left out, it is 0.
    The ends are cut off codes and not values: so the convolution before and the quantiser stay neighbours, which is
    what integer kernels are made of.
    """
    stored = np.dtype(np.int8 if low < 0 else np.uint8)
    is_whole = (low, high) == (np.iinfo(stored).min, np.iinfo(stored).max)

    def draw(b: Builder, x: gs.Tensor) -> gs.Tensor:
        if b.graph.opset < _OLDEST_OPSET:
            raise InvalidConfig(
                f"the model's operator set is {b.graph.opset}, whose Clip knows no codes; expected {_OLDEST_OPSET} or "
                "newer for learned grids; convert the model first"
            )
        middle = b.constant(np.asarray(0 if zero is None else zero, stored))
        scale = b.constant(np.asarray(step, np.float32))
        codes = b.op("QuantizeLinear", x, scale, middle)
        if not is_whole:
            codes = b.op("Clip", codes, b.constant(np.array(low, stored)), b.constant(np.array(high, stored)))
        return b.op("DequantizeLinear", codes, scale, middle)

    return draw
