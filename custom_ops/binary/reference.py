"""Binary layers in numpy: signs are numbers, sums are taken tap by tap in int64."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.binary.pack import Words, pack, unpack

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
    inside = channels // group
    kernel = signs(unpack(weight, inside))  # [O, height, width, C / group]
    outputs, height, width, _ = kernel.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    rows = (padded.shape[2] - (height - 1) * dilations[0] - 1) // strides[0] + 1
    columns = (padded.shape[3] - (width - 1) * dilations[1] - 1) // strides[1] + 1
    sums = np.zeros((x.shape[0], outputs, rows, columns), np.int64)
    each = outputs // group
    for g in range(group):
        mine = slice(g * each, (g + 1) * each)
        for i in range(height):
            for j in range(width):
                top, left = i * dilations[0], j * dilations[1]
                seen = padded[
                    :,
                    g * inside : (g + 1) * inside,
                    top : top + (rows - 1) * strides[0] + 1 : strides[0],
                    left : left + (columns - 1) * strides[1] + 1 : strides[1],
                ]
                sums[:, mine] += np.einsum("nchw,oc->nohw", seen, kernel[mine, i, j])
    return sums


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
