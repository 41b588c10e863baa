"""Binary layers in numpy: signs are numbers, sums are taken tap by tap in int64."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.binary.pack import Words, pack, unpack
from graphrewrite.custom_ops.window import convolve

Floats = npt.NDArray[np.float32]
Sums = npt.NDArray[np.int64]


def signs(is_plus: npt.NDArray[np.bool_]) -> Sums:
    """Return +1 and -1 for true and false."""
    return np.where(is_plus, 1, -1).astype(np.int64)


def conv_sums(
    x: Sums,
    weight: Words,
    *,
    channels: int,
    group: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> Sums:
    """Return the sums [N, O, OH, OW] of signs `x` [N, C, H, W] under packed weights [O, height, width, words]."""
    kernel = np.moveaxis(signs(unpack(weight, channels // group)), -1, 1)
    return convolve(x, kernel, strides=strides, pads=pads, dilations=dilations, group=group)


def mat_mul_sums(x: Sums, weight: Words, *, channels: int) -> Sums:
    """Return the sums [..., O] of signs `x` [..., C] under packed weights [O, words]."""
    sums: Sums = np.einsum("...c,oc->...o", x, signs(unpack(weight, channels)))
    return sums


def numbers(sums: Sums, scale: Floats, bias: Floats, axis: int) -> Floats:
    """Return sum * scale + bias in float32, outputs along `axis`; both steps are rounded."""
    last = np.moveaxis(sums, axis, -1).astype(np.float32)
    return np.moveaxis(last * scale + bias, -1, axis)


def bits(sums: Sums, threshold: npt.NDArray[np.int32], axis: int) -> Words:
    """Return which sums reach their output's threshold as words, outputs last."""
    return pack(np.moveaxis(sums, axis, -1) >= threshold)
