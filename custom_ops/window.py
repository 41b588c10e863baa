"""Convolutions in numpy as the references of all our operators mean them: slow, obvious, in whatever type they get."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", np.int64, np.float64)


def convolve(
    x: npt.NDArray[Number],
    weight: npt.NDArray[Number],
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int = 1,
) -> npt.NDArray[Number]:
    """Return the sums [N, O, H', W'] of `x` [N, C, H, W] under `weight` [O, C / group, height, width], tap by tap."""
    outputs, inside, height, width = weight.shape
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows = (padded.shape[2] - (height - 1) * dilations[0] - 1) // strides[0] + 1
    columns = (padded.shape[3] - (width - 1) * dilations[1] - 1) // strides[1] + 1
    sums = np.zeros((len(x), outputs, rows, columns), x.dtype)
    each = outputs // group
    for g in range(group):
        mine = slice(g * each, (g + 1) * each)
        for i in range(height):
            for j in range(width):
                down, across = i * dilations[0], j * dilations[1]
                seen = padded[
                    :,
                    g * inside : (g + 1) * inside,
                    down : down + (rows - 1) * strides[0] + 1 : strides[0],
                    across : across + (columns - 1) * strides[1] + 1 : strides[1],
                ]
                sums[:, mine] += np.einsum("nchw,oc->nohw", seen, weight[mine, :, i, j])
    return sums
