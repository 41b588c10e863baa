"""Packing of int8 weights into blocks of 16 outputs x 4 inputs, and back.

A block is 64 bytes: what one 512-bit dot-product instruction, two of 256 bits or four of 128 bits multiply with four
broadcast inputs. The same bytes serve every instruction set.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import ShapeError

OUTPUTS = 16
INPUTS = 4

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]


class Quads(NamedTuple):
    """The blocks that are not zero, in rising order of their positions.

    `blocks` is [blocks, 16, 4]: outputs, then inputs. `positions` is [blocks]: with outputs in groups of 16, inputs in
    quads of 4 and `taps` kernel positions, block (group, quad, tap) lies at (group * quads + quad) * taps + tap.
    """

    blocks: Int8s
    positions: Int32s


def pack(weight: Int8s) -> Quads:
    """Keep the blocks of `weight` [outputs, inputs, *kernel] that hold anything but zeros.

    Outputs and inputs that fill no whole block are filled up with zeros. At least one block is kept, since some
    runtimes stumble over empty tensors.

    Raises:
        ShapeError: `weight` is not int8, has fewer than two axes or an empty one, or too many blocks to number.
    """
    grid = _grid(weight)
    flat = grid.reshape(-1, OUTPUTS, INPUTS)
    positions = np.flatnonzero(flat.any(axis=(1, 2)))
    if not len(positions):
        positions = np.zeros(1, np.int64)
    return Quads(np.ascontiguousarray(flat[positions]), positions.astype(np.int32))


def unpack(quads: Quads, outputs: int, inputs: int, kernel: Sequence[int] = ()) -> Int8s:
    """Return the weight [outputs, inputs, *kernel] that `pack` was given."""
    groups, rows, taps = -(-outputs // OUTPUTS), -(-inputs // INPUTS), math.prod(kernel)
    flat = np.zeros((groups * rows * taps, OUTPUTS, INPUTS), np.int8)
    flat[quads.positions] = quads.blocks
    grid = flat.reshape(groups, rows, taps, OUTPUTS, INPUTS).transpose(0, 3, 1, 4, 2)
    whole = grid.reshape(groups * OUTPUTS, rows * INPUTS, taps)
    return np.ascontiguousarray(whole[:outputs, :inputs]).reshape(outputs, inputs, *kernel)


def density(weight: Int8s) -> float:
    """Return the share of blocks of `weight` [outputs, inputs, *kernel] that are not all zero."""
    return float(_grid(weight).any(axis=(3, 4)).mean())


def _grid(weight: Int8s) -> Int8s:
    """Return `weight` as [groups, quads, taps, 16, 4]."""
    if weight.dtype != np.int8 or weight.ndim < 2 or not weight.size:
        raise ShapeError(
            f"a weight of type {weight.dtype} and shape {list(weight.shape)} has no blocks; "
            "expected int8 [outputs, inputs, ...] without an empty axis"
        )
    outputs, inputs = weight.shape[:2]
    taps = math.prod(weight.shape[2:])
    groups, rows = -(-outputs // OUTPUTS), -(-inputs // INPUTS)
    if groups * rows * taps > np.iinfo(np.int32).max:
        raise ShapeError(
            f"a weight of shape {list(weight.shape)} has {groups * rows * taps} blocks; "
            "expected fewer than 2**31, which is what their numbers can hold; split the layer"
        )
    whole = np.zeros((groups * OUTPUTS, rows * INPUTS, taps), np.int8)
    whole[:outputs, :inputs] = weight.reshape(outputs, inputs, taps)
    return whole.reshape(groups, OUTPUTS, rows, INPUTS, taps).transpose(0, 2, 4, 1, 3)
