"""Packing of float weights into blocks of N outputs that share one input at one kernel position, and back.

With N outputs to a weight position, a kernel reads an input once and multiplies it N times, and its weights lie one
behind the other.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import InvalidConfig, ShapeError

WIDTHS = (1, 4, 8, 16, 32)

Floats = npt.NDArray[np.float32]
Int32s = npt.NDArray[np.int32]


class Blocks(NamedTuple):
    """The blocks that are not zero, in rising order of their positions.

    `blocks` is [blocks, N]: one number for each of N consecutive outputs. `positions` is [blocks]: with outputs in
    groups of N and `taps` kernel positions, block (group, input, tap) lies at (group * inputs + input) * taps + tap.
    """

    blocks: Floats
    positions: Int32s


def pack(weight: Floats, width: int) -> Blocks:
    """Keep the blocks of `width` outputs of `weight` [outputs, inputs, *kernel] that hold anything but zeros.

    Outputs that fill no whole block are filled up with zeros. At least one block is kept, since some runtimes stumble
    over empty tensors.

    Raises:
        InvalidConfig: there are no blocks of that width.
        ShapeError: `weight` is not float32, has fewer than two axes or an empty one, or too many blocks to number.
    """
    flat = _grid(weight, width).reshape(-1, width)
    positions = np.flatnonzero(flat.any(axis=1))
    if not len(positions):
        positions = np.zeros(1, np.int64)
    return Blocks(np.ascontiguousarray(flat[positions]), positions.astype(np.int32))


def unpack(blocks: Blocks, outputs: int, inputs: int, kernel: Sequence[int] = ()) -> Floats:
    """Return the weight [outputs, inputs, *kernel] that `pack` was given."""
    width = blocks.blocks.shape[1]
    groups, columns = -(-outputs // width), inputs * math.prod(kernel)
    flat = np.zeros((groups * columns, width), np.float32)
    flat[blocks.positions] = blocks.blocks
    whole = flat.reshape(groups, columns, width).transpose(0, 2, 1).reshape(groups * width, columns)
    return np.ascontiguousarray(whole[:outputs]).reshape(outputs, inputs, *kernel)


def density(weight: Floats, width: int) -> float:
    """Return the share of blocks of `weight` [outputs, inputs, *kernel] that are not all zero."""
    return float(_grid(weight, width).any(axis=2).mean())


def _grid(weight: Floats, width: int) -> Floats:
    """Return `weight` as [groups, inputs * kernel positions, width]."""
    if width not in WIDTHS:
        raise InvalidConfig(
            f"blocks of {width} outputs were asked for; there are kernels for {', '.join(map(str, WIDTHS))}; choose one"
        )
    if weight.dtype != np.float32 or weight.ndim < 2 or not weight.size:
        raise ShapeError(
            f"a weight of type {weight.dtype} and shape {list(weight.shape)} has no blocks; "
            "expected float32 [outputs, inputs, ...] without an empty axis"
        )
    outputs = weight.shape[0]
    columns = weight.size // outputs
    groups = -(-outputs // width)
    if groups * columns > np.iinfo(np.int32).max:
        raise ShapeError(
            f"a weight of shape {list(weight.shape)} has {groups * columns} blocks of {width} outputs; "
            "expected fewer than 2**31, which is what their numbers can hold; choose wider blocks or split the layer"
        )
    whole = np.zeros((groups * width, columns), np.float32)
    whole[:outputs] = weight.reshape(outputs, columns)
    return whole.reshape(groups, width, columns).transpose(0, 2, 1)
