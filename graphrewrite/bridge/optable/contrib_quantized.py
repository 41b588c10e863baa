"""Quantized operators of onnxruntime's own domain: dequantize, compute, quantize again, as its kernels do.

Integers in and out, so nothing is learned through them; a graph is trained in its QDQ form.
"""

from collections.abc import Callable

import torch
from torch import Tensor, fx
from torch.nn import functional

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.optable.contrib_activations import MICROSOFT
from graphrewrite.bridge.optable.integers import mat_mul_integer, requantized
from graphrewrite.bridge.optable.pool import average_pool_padded, mean_of_images
from graphrewrite.bridge.optable.quantized import (
    SETTINGS,
    dequantize_linear,
    divided,
    dynamic_quantize_linear,
    quantize_linear,
    scaled,
    stepped,
)
from graphrewrite.bridge.optable.softmax import softmax, softmax_of_rows
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.windows import Windows, windows_of

lowers("QuantizeLinear", domain=MICROSOFT, still=SETTINGS, folds=True)(quantize_linear)
lowers("DequantizeLinear", domain=MICROSOFT, still=SETTINGS, folds=True)(dequantize_linear)
op("MatMulInteger16", domain=MICROSOFT, gradient=False)(mat_mul_integer)


@op("QLinearAdd", domain=MICROSOFT, gradient=False)
def qlinear_add(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Tensor:
    """Return a + b."""
    return _again(_floats(a, a_scale, a_zero) + _floats(b, b_scale, b_zero), y_scale, y_zero, a)


@op("QLinearMul", domain=MICROSOFT, gradient=False)
def qlinear_mul(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Tensor:
    """Return a * b."""
    return _again(_floats(a, a_scale, a_zero) * _floats(b, b_scale, b_zero), y_scale, y_zero, a)


@op("QLinearConcat", domain=MICROSOFT, gradient=False)
def qlinear_concat(y_scale: Tensor, y_zero: Tensor, *parts: Tensor, axis: int) -> Tensor:
    """Join tensors that come each with its scale and zero point."""
    joined = torch.cat([_floats(*parts[i : i + 3]) for i in range(0, len(parts), 3)], axis)
    return _again(joined, y_scale, y_zero, parts[0])


@op("QLinearSigmoid", domain=MICROSOFT, gradient=False)
def qlinear_sigmoid(
    x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None
) -> Tensor:
    """Return the sigmoid."""
    return _again(torch.sigmoid(_floats(x, x_scale, x_zero)), y_scale, y_zero, x)


@op("QLinearSoftmax", domain=MICROSOFT, gradient=False)
def qlinear_softmax(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
    *,
    axis: int = -1,
    opset: int,
) -> Tensor:
    """Return the softmax as this version of the default operator set means it."""
    run = softmax if opset >= 13 else softmax_of_rows
    return _again(run(_floats(x, x_scale, x_zero), axis=axis), y_scale, y_zero, x)


@op("QLinearLeakyRelu", domain=MICROSOFT, gradient=False)
def qlinear_leaky_relu(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
    *,
    alpha: float = 0.01,
) -> Tensor:
    """Return x, or alpha * x below zero."""
    return _again(functional.leaky_relu(_floats(x, x_scale, x_zero), alpha), y_scale, y_zero, x)


@op("QLinearGlobalAveragePool", domain=MICROSOFT, gradient=False)
def qlinear_global_average_pool(
    x: Tensor, x_scale: Tensor, x_zero: Tensor, y_scale: Tensor, y_zero: Tensor, *, channels_last: int = 0
) -> Tensor:
    """Return the mean of each image."""
    return _over_image(mean_of_images, x, x_scale, x_zero, y_scale, y_zero, bool(channels_last))


@lowers("QLinearAveragePool", domain=MICROSOFT, gradient=False)
def qlinear_average_pool(site: Site) -> fx.Node:
    """Write the mean of each window."""
    rank = len(site.integers("kernel_shape"))
    if not rank:
        site.refuse("it lacks the attribute 'kernel_shape'")
    return site.call(
        average_pool_quantized,
        *(site.tensor(i) for i in range(5)),
        windows_of(site, rank),
        bool(site.integer("count_include_pad", 0)),
        bool(site.integer("channels_last", 0)),
    )


def average_pool_quantized(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None,
    windows: Windows,
    inclusive: bool,
    channels_last: bool,
) -> Tensor:
    """Return the mean of each window."""

    def pool(image: Tensor) -> Tensor:
        return average_pool_padded(image, windows, inclusive)

    return _over_image(pool, x, x_scale, x_zero, y_scale, y_zero, channels_last)


@op("QGemm", domain=MICROSOFT, gradient=False)
def qgemm(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero: Tensor | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803 (the attribute's name)
    transB: int = 0,  # noqa: N803
) -> Tensor:
    """Return alpha * (a @ b + c), c in the scale of the sums; floats where y has no scale."""
    left = (a.T if transA else a).double() - a_zero.double()
    right = b.double() - b_zero.double().reshape(-1, 1) if transB else b.double() - b_zero.double()
    sums = left @ (right.T if transB else right)
    if c is not None:
        sums = sums + c
    factor = alpha * a_scale * b_scale
    if y_scale is None or y_zero is None:
        return sums.to(factor.dtype) * factor
    return requantized(sums, factor / y_scale, y_zero)


@op("MatMulIntegerToFloat", domain=MICROSOFT, gradient=False)
def mat_mul_integer_to_float(
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Return the product as floats, plus a bias."""
    product = mat_mul_integer(a, b, a_zero, b_zero).to(a_scale.dtype) * (a_scale * b_scale)
    return product if bias is None else product + bias


@op("DynamicQuantizeMatMul", domain=MICROSOFT, gradient=False)
def dynamic_quantize_mat_mul(
    a: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Return floats times quantized weights, the floats quantized over their own range."""
    levels, scale, zero = dynamic_quantize_linear(a)
    return mat_mul_integer_to_float(levels, b, scale, b_scale, zero, b_zero, bias)


def _floats(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    return scaled(x, scale, zero, 1, 0)


def _again(y: Tensor, scale: Tensor, zero: Tensor | None, like: Tensor) -> Tensor:
    """Quantize to the type of the zero point, or of an input where there is none."""
    kind = like.dtype if zero is None else zero.dtype
    bounds = torch.iinfo(kind)
    return stepped(divided(y, scale, 1, 0, None), zero, bounds.min, bounds.max, 1, 0).to(kind)


def _over_image(
    what: Callable[[Tensor], Tensor],
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None,
    channels_last: bool,
) -> Tensor:
    image = _floats(x, x_scale, x_zero)
    made = what(image.movedim(-1, 1)).movedim(1, -1) if channels_last else what(image)
    return _again(made, y_scale, y_zero, x)
