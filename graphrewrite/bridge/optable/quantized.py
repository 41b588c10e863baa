"""Quantizing and its reverse.

A quantized tensor is made of integers, which carry no gradient in torch. So QuantizeLinear also leaves its levels as
floats (`LEVELS`), and a DequantizeLinear that reads it goes on from those: the pair then rounds forwards and lets
gradients straight through backwards, within the bounds of the type. What stands between the two (a Reshape, a pool)
works on integers, and gradients end there.
"""

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import onnx
import torch
from torch import Tensor, fx

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.numbers import tensor_of, torch_type
from graphrewrite.bridge.optable.cast import narrowed
from graphrewrite.bridge.rounding import rounded, through
from graphrewrite.bridge.site import Site
from graphrewrite.ir.values import numpy_dtype_to_onnx, onnx_dtype_to_numpy

LEVELS = "levels"  # of a call that makes integers: the call that makes the same numbers as floats
_SET = "a setting of the quantizer"
SETTINGS: Mapping[str | int, str] = {1: _SET, 2: _SET}
_UINT8 = onnx.TensorProto.UINT8


@lowers("QuantizeLinear", since=10, still=SETTINGS, folds=True)
def quantize_linear(site: Site) -> fx.Node:
    """Write the levels, and their change to the type of the zero point (or `output_dtype`, or uint8)."""
    kind = site.dtype(2)
    if site.has(2) and kind is None:
        site.refuse("the type of its zero point is not known")
    number = site.integer("output_dtype", 0) or _UINT8 if kind is None else numpy_dtype_to_onnx(kind)
    numpy_type = onnx_dtype_to_numpy(number)
    held = tensor_of(np.zeros(0, numpy_type)).dtype
    axis, block = site.integer("axis", 1), site.integer("block_size", 0)
    precision = site.integer("precision", 0)
    quotient = site.call(
        divided, site.tensor(0), site.tensor(1), axis, block, torch_type(precision) if precision else None
    )
    if held.is_floating_point:
        made = site.call(narrowed, quotient, held, saturate=bool(site.integer("saturate", 1)))
        made.meta[LEVELS] = site.call(as_read, quotient, made)
        return made
    bounds = ml_dtypes.iinfo(numpy_type)  # type: ignore[no-untyped-call]
    levels = site.call(stepped, quotient, site.tensor(2), int(bounds.min), int(bounds.max), axis, block)
    made = site.call(torch.Tensor.to, levels, held)
    made.meta[LEVELS] = levels
    return made


@lowers("DequantizeLinear", since=10, still=SETTINGS, folds=True)
def dequantize_linear(site: Site) -> fx.Node:
    """Write (x - zero point) * scale; x are floats where a quantizer left them."""
    x = site.tensor(0)
    assert x is not None
    kind = site.integer("output_dtype", 0)
    return site.call(
        scaled,
        x.meta.get(LEVELS, x),
        site.tensor(1),
        site.tensor(2),
        site.integer("axis", 1),
        site.integer("block_size", 0),
        torch_type(kind) if kind else None,
    )


@op("DynamicQuantizeLinear", since=11, gradient=False)
def dynamic_quantize_linear(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x in uint8 over its own range, which holds zero, with scale and zero point."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    span = torch.where(high == low, 1.0, high - low)
    scale = span / 255
    zero = torch.round(torch.clamp(-low / scale, 0, 255))
    levels = torch.clamp(torch.round(x / scale) + zero, 0, 255)
    return levels.to(torch.uint8), scale, zero.to(torch.uint8)


def spread(setting: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """Return a scale or zero point so that it fits x: one for all, one per slice of an axis, or one per block."""
    if block:
        return setting.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if setting.dim() == 0 or setting.numel() == 1:
        return setting.reshape(())
    sizes = [1] * x.dim()
    sizes[axis if x.dim() > 1 else 0] = -1
    return setting.reshape(sizes)


def divided(x: Tensor, scale: Tensor, axis: int, block: int, precision: torch.dtype | None) -> Tensor:
    """Return x / scale in the type of the scale or the given one."""
    kind = precision or scale.dtype
    return x.to(kind) / spread(scale, x, axis, block).to(kind)


def stepped(quotient: Tensor, zero: Tensor | None, low: int, high: int, axis: int, block: int) -> Tensor:
    """Return round(quotient) + zero point within bounds, as floats wide enough for them."""
    levels = rounded(quotient)
    levels = levels if levels.dtype == torch.float64 else levels.float()
    if zero is not None:
        levels = levels + spread(zero, quotient, axis, block).to(levels.dtype)
    return torch.clamp(levels, low, high)


def as_read(quotient: Tensor, narrow: Tensor) -> Tensor:
    """Return 8-bit floats in the type they were made from; gradients pass where the type holds the number."""
    largest = torch.finfo(narrow.dtype).max
    return through(quotient.clamp(-largest, largest), narrow.to(quotient.dtype))


def scaled(
    x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int, kind: torch.dtype | None = None
) -> Tensor:
    """Return (x - zero) * scale, in the type of the scale or the given one."""
    wide = torch.float64 if scale.dtype == torch.float64 else torch.float32
    levels = x.to(wide)
    if zero is not None:
        levels = levels - spread(zero, x, axis, block).to(wide)
    return (levels * spread(scale, x, axis, block).to(wide)).to(kind or scale.dtype)
