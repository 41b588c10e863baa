"""Products of quantized numbers, as integer kernels make them.

Sums of products of 8-bit numbers are whole; they are made in double precision, which holds them exactly on every device
(torch multiplies integers on the CPU only). These operators take integers in and hand integers out, so no gradient
passes: a graph is trained in its QDQ form.
"""

import torch
from torch import Tensor, fx

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.optable.conv import conv_by_size
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.windows import Windows, windows_of


@op("MatMulInteger", since=10, gradient=False)
def mat_mul_integer(
    a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """Return (a - its zero) @ (b - its zero) as int32."""
    return _product(a, a_zero, b, b_zero).to(torch.int32)


@op("QLinearMatMul", since=10, gradient=False)
def qlinear_mat_mul(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """Return the product in the scale of y; a may have a scale for each row, b for each column."""
    factor = _of_rows(a_scale, a) * b_scale / y_scale
    return requantized(_product(a, a_zero, b, b_zero), factor, y_zero)


@lowers("ConvInteger", since=10, gradient=False)
def conv_integer(site: Site) -> fx.Node:
    """Write a convolution of integers, padded with what stands for zero, as int32."""
    windows = weight_windows(site, 1)
    inputs = (site.tensor(i) for i in range(4))
    return site.call(integer_conv, *inputs, windows, site.integer("group", 1))


@lowers("QLinearConv", since=10, gradient=False)
def qlinear_conv(site: Site) -> fx.Node:
    """Write a convolution of integers in the scale of y; the weight may have a scale for each filter."""
    windows = weight_windows(site, 3)
    inputs = (site.tensor(i) for i in range(9))
    return site.call(requantized_conv, *inputs, windows, site.integer("group", 1))


def integer_conv(
    x: Tensor, weight: Tensor, x_zero: Tensor | None, weight_zero: Tensor | None, windows: Windows, group: int
) -> Tensor:
    """Return the convolution as int32."""
    return _convolved(x, x_zero, weight, weight_zero, windows, group).to(torch.int32)


def requantized_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor | None,
    windows: Windows,
    group: int,
) -> Tensor:
    """Return the convolution plus a bias in the scale of the sums, in the scale of y."""
    sums = _convolved(x, x_zero, weight, weight_zero, windows, group)
    if bias is not None:
        sums = sums + of_filters(bias, sums)
    return requantized(sums, of_filters(x_scale * weight_scale / y_scale, sums), y_zero)


def requantized(sums: Tensor, factor: Tensor, zero: Tensor) -> Tensor:
    """Return round(sums * factor) + zero in the type of `zero`, held within its range."""
    bounds = torch.iinfo(zero.dtype)
    levels = torch.round(sums.to(torch.float32) * factor.to(torch.float32)) + zero.to(torch.float32)
    return torch.clamp(levels, bounds.min, bounds.max).to(zero.dtype)


def of_filters(setting: Tensor, sums: Tensor) -> Tensor:
    """Return one number, or one for each filter, so that it fits [batch, filters, ...]."""
    return setting.reshape(()) if setting.numel() == 1 else setting.reshape(-1, *(1,) * (sums.dim() - 2))


def _product(a: Tensor, a_zero: Tensor | None, b: Tensor, b_zero: Tensor | None) -> Tensor:
    left, right = a.double(), b.double()
    if a_zero is not None:
        left = left - _of_rows(a_zero.double(), a)
    if b_zero is not None:
        right = right - b_zero.double()
    return torch.matmul(left, right)


def _of_rows(setting: Tensor, a: Tensor) -> Tensor:
    return setting.unsqueeze(-1) if setting.dim() == 1 and setting.numel() > 1 else setting


def _convolved(
    x: Tensor, x_zero: Tensor | None, weight: Tensor, weight_zero: Tensor | None, windows: Windows, group: int
) -> Tensor:
    image, filters = x.double(), weight.double()
    if x_zero is not None:
        image = image - x_zero.double().reshape(())
    if weight_zero is not None:
        zero = weight_zero.double()
        filters = filters - (
            zero.reshape(-1, *(1,) * (weight.dim() - 1)) if zero.numel() > 1 else zero.reshape(())
        )
    return conv_by_size(image, filters, None, windows, group)


def weight_windows(site: Site, slot: int) -> Windows:
    """Return how the weight at a slot slides over the image."""
    weight = site.shape(slot)
    if weight is None or not 3 <= len(weight) <= 5:
        site.refuse("torch convolves over one to three axes, and the weight does not say how many these are")
    return windows_of(site, len(weight) - 2, weight[2:])
