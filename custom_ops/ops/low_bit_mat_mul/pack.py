"""The file format of low-bit weights: codes in blocks of 32 outputs, and back.

A block is read from its first byte to its last. Each slab of it holds a few inputs of all 32 outputs, so that the
lanes of a vector register are outputs, and one slab after another is multiplied with the same inputs for all of them.
"""

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import ShapeError

OUTPUTS = 32  # of a block
INPUTS = 16  # that inputs are rounded up to

Codes = npt.NDArray[np.uint8]
Halves = npt.NDArray[np.float16]


def width(bits: int) -> int:
    """Return the bytes of one output in a slab."""
    return 2 if bits == 1 else 4


def pack(codes: Codes, bits: int) -> Codes:
    """Return `codes` [outputs, inputs], each below 2**bits, as bytes [blocks, slabs, 32, width].

    Raises:
        ShapeError: `codes` is not a matrix, or holds a code that `bits` cannot.
    """
    if codes.ndim != 2 or not codes.size or codes.max() >= 1 << bits:
        raise ShapeError(
            f"codes of shape {list(codes.shape)} up to {codes.max(initial=0)} were to be packed at {bits} bits; "
            f"expected a matrix [outputs, inputs] of numbers below {1 << bits}"
        )
    outputs, inputs = codes.shape
    whole = np.zeros((-(-outputs // OUTPUTS) * OUTPUTS, -(-inputs // INPUTS) * INPUTS), np.uint8)
    whole[:outputs, :inputs] = codes
    per_byte = 8 // bits
    split = whole.reshape(
        len(whole) // OUTPUTS, OUTPUTS, -1, per_byte, width(bits)
    )  # [block, 32, slab, plane, byte]
    shifts = (np.arange(per_byte, dtype=np.uint8) * bits)[:, None]
    packed = np.bitwise_or.reduce(split << shifts, axis=3)
    return np.ascontiguousarray(packed.transpose(0, 2, 1, 3))


def unpack(packed: Codes, bits: int, outputs: int, inputs: int) -> Codes:
    """Return the codes [outputs, inputs] that `pack` was given."""
    shifts = (np.arange(8 // bits, dtype=np.uint8) * bits)[:, None]
    planes = (packed[..., None, :] >> shifts) & np.uint8((1 << bits) - 1)  # [block, slab, 32, plane, byte]
    whole = planes.transpose(0, 2, 1, 3, 4).reshape(len(packed) * OUTPUTS, -1)
    return np.ascontiguousarray(whole[:outputs, :inputs])


def pack_scales(scales: npt.NDArray[np.floating]) -> Halves:
    """Return `scales` [outputs, groups] as [blocks, groups, 32]; what fills the last block is 0."""
    outputs, groups = scales.shape
    whole = np.zeros((-(-outputs // OUTPUTS) * OUTPUTS, groups), np.float16)
    whole[:outputs] = scales
    return np.ascontiguousarray(whole.reshape(-1, OUTPUTS, groups).transpose(0, 2, 1))


def unpack_scales(scales: Halves, outputs: int) -> Halves:
    """Return the scales [outputs, groups] that `pack_scales` was given."""
    return scales.transpose(0, 2, 1).reshape(-1, scales.shape[1])[:outputs]
