"""Weights whose codes have a zero of their own for each output, written so that integer kernels take them.

A code of seven bits or fewer, less the code that stands for zero, still is an int8: the zero of all outputs is 0 then,
which every kernel knows, and nothing is rounded. Biases become int32. A layer that cannot compute in integers, because
it reads or writes floats, gets its weight from operators that onnxruntime folds when it loads the model.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model
from graphrewrite.ir.edit import drop_unused, producer, set_input
from graphrewrite.ir.values import constant_value
from graphrewrite.match.view import View
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.passes.quant.grid import Singles, along, stored_bias
from graphrewrite.passes.quant.pack import pack, unpacked
from graphrewrite.passes.quant.write import PACKED
from graphrewrite.passes.tidy.reading import source

Whole = npt.NDArray[np.int32]

_FLOAT, _INT8, _INT32 = 1, 3, 6  # of ONNX
_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
_LARGEST = 2.0**30
_LEAST = 2048  # numbers; of fewer, what unpacks them takes more room than packing saves


class _Codes(NamedTuple):
    """Codes of a weight, steps and zeros of outputs ([] or one for each position of `axis`)."""

    codes: Array
    steps: Singles
    zeros: Array
    axis: int

    @property
    def middle(self) -> Whole:
        """Zeros as int32 that meet the codes."""
        return along(self.zeros.astype(np.float32), self.axis, self.codes.ndim).astype(np.int32)

    @property
    def above(self) -> Whole:
        """Codes less their zero."""
        return np.asarray(self.codes.astype(np.int32) - self.middle)


def recentre(model: Model) -> list[str]:
    """Rewrite weights that are uint8 codes behind DequantizeLinear, in place; codes too far from their zero stay.

    Returns:
        Names of the layers that compute in integers then.
    """
    view, names = View(model), Names(model)
    done = []
    for node, found in list(_coded(model)):
        is_int8 = int(found.above.min(initial=0)) >= -128 and int(found.above.max(initial=0)) <= 127
        is_integer = _reads_codes(node) and (node.op != "Conv" or _gives_codes(view, node))
        if is_integer and not is_int8:
            continue  # in floats onnxruntime would round it once more, by one scale for all outputs
        writer = Writer(model, model.graph, str(node.inputs[1].name), names)
        set_input(node, 1, _weight(writer, found, is_integer))
        if is_integer:
            _round_bias(writer, node, found.steps)
            done.append(str(node.name or node.outputs[0].name))
        writer.put_before(node)
    drop_unused(model.graph)
    return done


def _coded(model: Model) -> Iterator[tuple[gs.Node, _Codes]]:
    """Yield the layers whose weight is uint8 codes."""
    for node in model.graph.nodes:
        end = producer(node.inputs[1]) if node.op in _LAYERS else None
        if end is None or end.op != "DequantizeLinear":
            continue
        codes, steps, zeros = (
            None if source(end, i) is None else constant_value(end.inputs[i]) for i in range(3)
        )
        if codes is None or steps is None or zeros is None or codes.dtype != np.uint8:
            continue
        axis = int(end.attrs.get("axis", 1)) % codes.ndim
        yield node, _Codes(np.asarray(codes), np.asarray(steps, np.float32), np.asarray(zeros), axis)


def _reads_codes(node: gs.Node) -> bool:
    maker = producer(node.inputs[0])
    return maker is not None and maker.op == "DequantizeLinear"


def _gives_codes(view: View, node: gs.Node) -> bool:
    """Tell whether what a convolution writes is rounded, at once or behind a rectifier."""
    user = view.sole_user(node.outputs[0])
    if user is not None and user.op in ("Clip", "Relu"):
        user = view.sole_user(user.outputs[0])
    return user is not None and user.op == "QuantizeLinear"


def _weight(writer: Writer, found: _Codes, is_integer: bool) -> gs.Tensor:
    """Write the weight from codes whose zero is 0."""
    bits = max(2, int(found.codes.max(initial=0)).bit_length())
    codes: gs.Tensor
    if bits <= PACKED and found.codes.size >= _LEAST:
        half = 1 << (bits - 1)
        signed = unpacked(writer, pack(found.codes.astype(np.int64) - half, bits), bits, found.codes.shape)
        moved = writer.constant(np.asarray(found.middle - half), "moved")
        codes = writer.op("Sub", writer.op("Cast", signed, to=_INT32), moved)
        codes = writer.op("Cast", codes, to=_INT8) if is_integer else codes
    elif is_integer:
        codes = writer.constant(found.above.astype(np.int8), "codes")
    else:
        wide = writer.op("Cast", writer.constant(found.codes, "codes"), to=_INT32)
        codes = writer.op("Sub", wide, writer.constant(found.middle, "moved"))
    if not is_integer:
        steps = writer.floats(along(found.steps, found.axis, found.codes.ndim), "step")
        return writer.op("Mul", writer.op("Cast", codes, to=_FLOAT), steps)
    zeros = writer.constant(np.zeros(found.steps.shape, np.int8), "zero")
    axis = {"axis": found.axis} if found.steps.ndim else {}
    return writer.op("DequantizeLinear", codes, writer.floats(found.steps, "step"), zeros, **axis)


def _round_bias(writer: Writer, node: gs.Node, steps: Singles) -> None:
    """Round a bias to units of the input's step times the weight's, which kernels add; leave one that does not fit."""
    bias = None if source(node, 2) is None else constant_value(node.inputs[2])
    if bias is None or bias.ndim != 1:
        return
    read = producer(node.inputs[0])
    assert read is not None
    step = constant_value(read.inputs[1])
    if step is None or np.size(step) != 1:
        return
    unit = float(np.asarray(step, np.float32).reshape(-1)[0])
    if (np.abs(bias.astype(np.float64)) > _LARGEST * unit * steps).any():
        return
    stored = stored_bias(bias, unit, steps)
    codes = writer.constant(stored.codes, "bias")
    set_input(node, 2, writer.op("DequantizeLinear", codes, writer.floats(stored.steps, "unit"), axis=0))
