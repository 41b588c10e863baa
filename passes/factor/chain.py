"""Reading a chain of nodes backwards, one constant operand at a time."""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, constant_value
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import producer
from graphrewrite.passes.factor.writer import Writer

END = np.iinfo(np.int64).max


def maker(tensor: gs.Tensor, *ops: str) -> gs.Node | None:
    """Return the node that writes a tensor where it is a standard operator of one of these types."""
    node = producer(tensor)
    return node if node is not None and node.op in ops and not domain_name(node.domain) else None


def constant(node: gs.Node, index: int) -> Array | None:
    """Return the numbers of a constant input, None where it is computed or missing."""
    return constant_value(node.inputs[index]) if index < len(node.inputs) else None


def integers(node: gs.Node, index: int) -> list[int] | None:
    """Return a constant vector of integers."""
    values = constant(node, index)
    if values is None or values.ndim != 1 or values.dtype.kind != "i":
        return None
    return [int(value) for value in values]


def beside(node: gs.Node) -> tuple[gs.Tensor, Array] | None:
    """Return the computed and the constant operand of a sum or product with a vector."""
    for side in (1, 0):
        values = constant(node, side)
        if values is not None and values.ndim == 1 and values.dtype == np.float32:
            return node.inputs[1 - side], values
    return None


def sliced(tensor: gs.Tensor, axis: int) -> tuple[gs.Tensor, int, int] | None:
    """Return (source, start, stop) of a tensor that is a range of another along one axis."""
    node = maker(tensor, "Slice")
    if node is None or integers(node, 3) != [axis] or (len(node.inputs) > 4 and integers(node, 4) != [1]):
        return None
    start, stop = integers(node, 1), integers(node, 2)
    if start is None or stop is None or not 0 <= start[0] <= stop[0]:
        return None
    return node.inputs[0], start[0], stop[0]


def take(writer: Writer, x: gs.Tensor, axis: int, start: int, stop: int) -> gs.Variable:
    """Write what `sliced` reads."""
    bounds = (
        writer.ints([number], stem) for number, stem in ((start, "start"), (stop, "stop"), (axis, "axis"))
    )
    return writer.op("Slice", x, *bounds)


def as_rows(writer: Writer, x: gs.Tensor, *shape: int) -> gs.Variable:
    """Write a Reshape to [rows, ...shape], whatever the rank of `x`."""
    return writer.op("Reshape", x, writer.ints([-1, *shape], "rows"))


def as_before(writer: Writer, rows: gs.Tensor, x: gs.Tensor, width: int) -> gs.Variable:
    """Write a Reshape of `rows` to the leading sizes of `x` and a last axis of `width`."""
    bounds = (writer.ints([number], stem) for number, stem in ((0, "start"), (-1, "stop"), (0, "axis")))
    lead = writer.op("Slice", writer.op("Shape", x), *bounds)
    shape = writer.op("Concat", lead, writer.ints([width], "width"), axis=0)
    # A size of zero would mean "copy" otherwise, and the rows have other sizes than x.
    more = {"allowzero": 1} if writer.model.opset >= 14 else {}
    return writer.op("Reshape", rows, shape, **more)
