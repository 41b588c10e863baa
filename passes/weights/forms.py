"""The forms in which rounded weights are filed, each in the place of the floats that a node reads.

`expanded` gives the floats back by operators on constants only. onnxruntime carries those out once, when it loads the
model, and computes as it did before. `dequantised` is the standard's own form for matrix products, which other runtimes
know too. `packed_product` is onnxruntime's operator that multiplies with the codes as they lie.
"""

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array
from graphrewrite.ir.values import numpy_dtype_to_onnx
from graphrewrite.passes.factor.writer import Writer
from graphrewrite.passes.quant.pack import pack, unpacked
from graphrewrite.passes.weights.blocks import Blocks
from graphrewrite.passes.weights.sites import Rows

MICROSOFT = "com.microsoft"
_FLOAT, _INT8_ROWS = (
    1,
    4,
)  # an element type; an accuracy level: kernels may round rows to int8, block by block

# Element types of codes without and with zeros, which standard quantisers only have unsigned in most kernels.
_SIGNED = {2: np.dtype(ml_dtypes.int2), 4: np.dtype(ml_dtypes.int4), 8: np.dtype(np.int8)}
_UNSIGNED = {2: np.dtype(ml_dtypes.uint2), 4: np.dtype(ml_dtypes.uint4), 8: np.dtype(np.uint8)}


def expanded(
    writer: Writer, blocks: Blocks, rows: Rows, shape: Sequence[int], dtype: np.dtype[np.generic]
) -> gs.Variable:
    """Write codes and the operators that make a float weight of a shape and type of them, once it is loaded."""
    codes: gs.Tensor
    if blocks.bits < 8:
        codes = unpacked(writer, pack(blocks.codes, blocks.bits), blocks.bits, blocks.codes.shape)
    else:
        codes = writer.constant(blocks.codes, "codes")
    values = writer.op("Cast", codes, to=_FLOAT)
    if blocks.zeros is not None:
        zeros = writer.op("Cast", writer.constant(blocks.zeros[..., None], "zeros"), to=_FLOAT)
        values = writer.op("Sub", values, zeros)
    values = writer.op("Mul", values, writer.floats(blocks.steps[..., None], "steps"))
    count, filled = len(blocks.codes), blocks.steps.shape[1] * blocks.block
    if filled != blocks.width:
        values = writer.op("Reshape", values, writer.ints([count, filled], "rows"))
        first, end, axis = (writer.ints([each], "cut") for each in (0, blocks.width, 1))
        values = writer.op("Slice", values, first, end, axis)
    if rows.order != tuple(range(len(rows.order))):
        values = writer.op("Reshape", values, writer.ints(rows.turned, "turned"))
        values = writer.op("Transpose", values, perm=list(rows.back))
    if dtype != np.float32:
        values = writer.op("Cast", values, to=numpy_dtype_to_onnx(dtype))
    return writer.op("Reshape", values, writer.ints(shape, "shape"))


def dequantised(writer: Writer, blocks: Blocks) -> gs.Variable:
    """Write DequantizeLinear over a weight [inputs, outputs], whose rows are its outputs."""
    count, filled = len(blocks.codes), blocks.steps.shape[1] * blocks.block
    codes = blocks.codes.reshape(count, filled)[:, : blocks.width].T
    whole = blocks.steps.shape[1] == 1
    operands = [blocks.steps.reshape(-1) if whole else blocks.steps.T]
    kind, raised = codes.dtype, 0
    if codes.dtype == np.int8:
        raised = 0 if blocks.zeros is None else 2 ** (blocks.bits - 1)
        kind = (_UNSIGNED if raised else _SIGNED)[blocks.bits]
    if blocks.zeros is not None:
        zeros = blocks.zeros.reshape(-1) if whole else blocks.zeros.T
        operands.append((zeros.astype(np.int16) + raised).astype(kind))
    filed = (codes.astype(np.int16) + raised).astype(kind) if codes.dtype == np.int8 else codes
    tensors = [
        writer.constant(np.ascontiguousarray(each), stem)
        for each, stem in zip((filed, *operands), ("codes", "steps", "zeros"), strict=False)
    ]
    where = {"axis": 1} if whole else {"axis": 0, "block_size": blocks.block}
    return writer.op("DequantizeLinear", *tensors, **where)


def packed_product(writer: Writer, x: gs.Tensor, blocks: Blocks, bias: Array | None) -> gs.Variable:
    """Write MatMulNBits of `x` [..., inputs] with a weight whose rows are outputs, and a bias [outputs]."""
    made = writer.variable("matmulnbits")
    operands: list[gs.Tensor] = [
        x,
        writer.constant(low_first(blocks.codes, blocks.bits), "codes"),
        writer.floats(blocks.steps, "steps"),
    ]
    if blocks.zeros is not None:
        operands.append(writer.constant(low_first(blocks.zeros, blocks.bits), "zeros"))
    if bias is not None:
        operands += [gs.Variable.empty()] * (5 - len(operands))
        operands.append(writer.floats(bias, "bias"))
    sizes = {"K": blocks.width, "N": len(blocks.codes), "bits": blocks.bits, "block_size": blocks.block}
    name = writer.names.nodes.fresh(made.name)
    settings = {**sizes, "accuracy_level": _INT8_ROWS}
    writer.made.append(gs.Node("MatMulNBits", name, settings, operands, [made], MICROSOFT))
    return made


def low_first(codes: Array, bits: int) -> npt.NDArray[np.uint8]:
    """Return signed codes [..., count] in bytes [..., bytes], higher by half their range, the first in the low bits."""
    each = 8 // bits
    wide = codes.astype(np.int64) + (1 << (bits - 1))
    wide = np.pad(wide, [(0, 0)] * (wide.ndim - 1) + [(0, -wide.shape[-1] % each)])
    parts = wide.reshape(*wide.shape[:-1], -1, each) << (bits * np.arange(each))
    return np.asarray(parts.sum(axis=-1), np.uint8)
