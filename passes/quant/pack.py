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

_STEM = "bits"


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
    """Write the operators that give back int8 codes of a shape from their planes.

    Planes are named after what `writer` writes. The operators have short names, and share what they can: it fills a
    tenth of a small net's file.
    """
    count = int(np.prod(shape))
    pen = Writer(writer.model, writer.graph, _STEM, writer.names)
    total: gs.Variable | None = None
    left = bits
    for plane, width in zip(planes, planes_of(bits), strict=True):
        left -= width
        packed = writer.constant(plane, f"bits{width}")
        # Left until the code is at the top, right until it is alone: no operator set needs a bitwise and for it.
        top = pen.op(
            "BitShift", packed, _shared(pen, _above(width).astype(np.uint8), f"up{width}"), direction="LEFT"
        )
        part = pen.op(
            "BitShift", top, _shared(pen, np.array([8 - width], np.uint8), f"down{width}"), direction="RIGHT"
        )
        is_whole = len(plane) * (8 // width) == count
        if len(planes) > 1 or not is_whole:
            part = pen.op("Reshape", part, _shared(pen, np.array([-1]), "flat"))
        part = pen.op("Cast", part, to=6)
        if not is_whole:
            part = pen.op("Slice", part, pen.ints([0], "start"), pen.ints([count], "end"))
        if left:
            part = pen.op("Mul", part, pen.constant(np.array(1 << left, np.int32), "weight"))
        total = part if total is None else pen.op("Add", total, part)
    assert total is not None
    if apart > 1:
        total = pen.op("Mul", total, pen.constant(np.array(apart, np.int32), "apart"))
    half = (apart << (bits - 1)) - (apart - 1)
    middle = _shared(pen, np.array(half, np.int32), f"half{half}")
    signed = pen.op("Cast", pen.op("Sub", total, middle), to=3)
    made = pen.op("Reshape", signed, pen.ints([int(size) for size in shape], "shape"))
    writer.made += pen.made
    return made


def _above(width: int) -> npt.NDArray[np.int64]:
    """Return how many bits of a byte lie above each of its codes."""
    return np.arange(0, 8, width)


def _shared(writer: Writer, values: Array, stem: str) -> gs.Constant:
    """Return an initializer of the graph that was filed for another weight, or file it."""
    present = writer.graph.initializers.get(f"{_STEM}.{stem}")
    if present is not None and present.dtype == values.dtype and np.array_equal(present.values, values):
        return present
    return writer.constant(values, stem)
