"""Codes of less than a byte in bytes, and the operators that take them out again.

onnxruntime folds what hangs on constants when it loads a model, before it looks for quantisers. So codes that are
unpacked by operators end up as the int8 weights of integer kernels: the file holds few bits, the session loses no time.
A code of three bits is two of one width: bits are laid in planes of 4, 2 and 1. Odd codes are 2 apart; what is packed
is the lower half of each.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array
from graphrewrite.passes.factor.writer import Writer

Bytes = npt.NDArray[np.uint8]


def planes_of(bits: int) -> list[int]:
    """Return the widths whose planes hold codes of so many bits, the plane of the lowest bits last."""
    return [width for width in (4, 2, 1) if bits & width]


def pack(codes: Array, bits: int, apart: int = 1) -> list[Bytes]:
    """Return a plane of bytes [bytes, 1] for each width; codes are signed, and lie higher by half their range inside.

    The first code of a byte is in its highest bits.
    """
    flat = (codes.astype(np.int64).reshape(-1) - (apart - 1)) // apart + (1 << (bits - 1))
    made = []
    left = bits
    for width in planes_of(bits):
        left -= width
        part = (flat >> left) & ((1 << width) - 1)
        each = 8 // width
        rows = np.pad(part, (0, -len(part) % each)).reshape(-1, each)
        shifted = rows << _above(width)[::-1]
        made.append(shifted.sum(axis=1, keepdims=True).astype(np.uint8))
    return made


def unpacked(
    writer: Writer, planes: Sequence[Bytes], bits: int, shape: Sequence[int], apart: int = 1
) -> gs.Variable:
    """Write the operators that give back int8 codes of a shape from their planes."""
    count = int(np.prod(shape))
    total: gs.Variable | None = None
    left = bits
    for plane, width in zip(planes, planes_of(bits), strict=True):
        left -= width
        packed = writer.constant(plane, f"bits{width}")
        # Left until the code is at the top, right until it is alone: no operator set needs a bitwise and for it.
        top = writer.op("BitShift", packed, _bytes(writer, _above(width), "up"), direction="LEFT")
        part = writer.op("BitShift", top, _bytes(writer, np.array([8 - width]), "down"), direction="RIGHT")
        part = writer.op("Cast", writer.op("Reshape", part, writer.ints([-1], "flat")), to=6)
        if len(plane) * (8 // width) != count:
            part = writer.op("Slice", part, writer.ints([0], "start"), writer.ints([count], "end"))
        if left:
            part = writer.op("Mul", part, writer.constant(np.array(1 << left, np.int32), "weight"))
        total = part if total is None else writer.op("Add", total, part)
    assert total is not None
    if apart > 1:
        total = writer.op("Mul", total, writer.constant(np.array(apart, np.int32), "apart"))
    middle = writer.constant(np.array((apart << (bits - 1)) - (apart - 1), np.int32), "middle")
    signed = writer.op("Cast", writer.op("Sub", total, middle), to=3)
    return writer.op("Reshape", signed, writer.ints([int(size) for size in shape], "shape"))


def _above(width: int) -> npt.NDArray[np.int64]:
    """Return how many bits of a byte lie above each of its codes."""
    return np.arange(0, 8, width)


def _bytes(writer: Writer, values: Array, stem: str) -> gs.Constant:
    return writer.constant(values.astype(np.uint8), stem)
