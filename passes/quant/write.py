"""Writing rounded tensors into a graph: as quantisers that kernels take up, or slowly in operators on floats.

Both writings follow one plan, and say the same to the last bit where the graph runs as it stands.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.ir.edit import drop_unused, sort_nodes
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.passes.quant.grid import Grid, Scale, Stored, along
from graphrewrite.passes.quant.pack import pack, unpacked

PACKED = 6  # bits at most: seven in three planes save an eighth
_MICROSOFT = "com.microsoft"
_WIDE_OPSET = 21  # quantisers of 16 bits are standard from here on; before, onnxruntime has its own


class Operand(NamedTuple):
    """An input of a node, both by number, that is a constant and becomes codes.

    `is_folded`: the node computes in floats, so the codes are expanded by operators that onnxruntime folds when it
    loads the model; a DequantizeLinear would be run every time.
    """

    node: int
    slot: int
    stored: Stored
    is_folded: bool = False


class Form(Protocol):
    """Another way from the values of a tensor to codes than the grid that all others are on."""

    def quantised(self, writer: Writer, x: gs.Tensor) -> gs.Variable:
        """Write codes of `x`, and what they stand for."""
        ...

    def simulated(self, writer: Writer, x: gs.Tensor) -> gs.Variable:
        """Write the same in floats."""
        ...


class OnGrid(NamedTuple):
    """The form of a tensor on a grid of its own."""

    grid: Grid
    scale: Scale

    def quantised(self, writer: Writer, x: gs.Tensor) -> gs.Variable:
        """Quantise and dequantise with one scale."""
        step = writer.floats(np.asarray(self.scale.step), "step")
        zero = writer.constant(np.asarray(self.scale.zero, self.grid.dtype), "zero")
        result = writer.op("DequantizeLinear", writer.op("QuantizeLinear", x, step, zero), step, zero)
        _place(writer, self.grid.dtype, 2)
        return result

    def simulated(self, writer: Writer, x: gs.Tensor) -> gs.Variable:
        """Round to whole steps as far as codes reach: a symmetric grid leaves one out, but kernels do not."""
        step, ends = writer.floats(np.asarray(self.scale.step), "step"), np.iinfo(self.grid.dtype.name)
        low = writer.floats(np.asarray(ends.min - self.scale.zero), "low")
        high = writer.floats(np.asarray(ends.max - self.scale.zero), "high")
        steps = writer.op("Round", writer.op("Div", x, step))
        return writer.op("Mul", writer.op("Clip", steps, low, high), step)


class Rounding(NamedTuple):
    """A tensor that is rounded for `readers` (numbers of node and input), for all who read it where there are none."""

    tensor: str
    scale: Scale
    readers: tuple[tuple[int, int], ...] = ()
    form: Form | None = None


class Plan(NamedTuple):
    """All that changes in a graph; nodes are numbered in its order.

    `guarded` are nodes that stay in floats between two roundings: onnxruntime of today would round their weights when
    it loads the model, with one scale for all of a weight, unless something stands before the next quantiser.
    """

    operands: Sequence[Operand]
    roundings: Sequence[Rounding]
    guarded: Sequence[int] = ()


class Style(Protocol):
    """How rounded tensors are written."""

    def constant(self, writer: Writer, stored: Stored, is_folded: bool = False) -> gs.Tensor:
        """Return a tensor with the values of a stored constant."""
        ...

    def rounded(self, writer: Writer, x: gs.Tensor, rounding: Rounding) -> gs.Variable:
        """Return a tensor with the values of `x` rounded."""
        ...


class Quantisers(NamedTuple):
    """QuantizeLinear and DequantizeLinear, codes as initializers."""

    grid: Grid

    def constant(self, writer: Writer, stored: Stored, is_folded: bool = False) -> gs.Tensor:
        """File the codes, packed where that saves much, and dequantise them."""
        codes: gs.Tensor
        if stored.bits <= PACKED:
            planes = pack(stored.codes, stored.bits, stored.apart)
            codes = unpacked(writer, planes, stored.bits, stored.codes.shape, stored.apart)
        else:
            codes = writer.constant(stored.codes, "codes")
        if is_folded:
            steps = writer.floats(along(stored.steps, stored.axis, stored.codes.ndim), "step")
            return writer.op("Mul", writer.op("Cast", codes, to=1), steps)
        steps = writer.floats(stored.steps, "step")
        if stored.codes.dtype == np.int32:  # a bias: its zero is 0 and takes no room
            return writer.op("DequantizeLinear", codes, steps, axis=stored.axis)
        zero = np.full(stored.steps.shape, stored.zero, stored.codes.dtype)
        axis = {"axis": stored.axis} if stored.steps.ndim else {}
        result = writer.op("DequantizeLinear", codes, steps, writer.constant(zero, "zero"), **axis)
        _place(writer, stored.codes.dtype, 1)
        return result

    def rounded(self, writer: Writer, x: gs.Tensor, rounding: Rounding) -> gs.Variable:
        """Quantise and dequantise with one scale."""
        return (rounding.form or OnGrid(self.grid, rounding.scale)).quantised(writer, x)


class Simulated(NamedTuple):
    """Floats throughout: divide, round, clip, multiply; constants are filed as what their codes stand for."""

    grid: Grid

    def constant(self, writer: Writer, stored: Stored, is_folded: bool = False) -> gs.Tensor:
        """File the values."""
        return writer.floats(stored.expand(), "rounded")

    def rounded(self, writer: Writer, x: gs.Tensor, rounding: Rounding) -> gs.Variable:
        """Round to whole steps within the grid's reach."""
        return (rounding.form or OnGrid(self.grid, rounding.scale)).simulated(writer, x)


def write(model: Model, plan: Plan, style: Style) -> None:
    """Carry a plan out on a model.

    The names of tensors that all readers get rounded go over to what they read, since outputs keep their names.
    """
    names = Names(model)
    nodes = list(model.graph.nodes)
    tensors = {tensor.name: tensor for tensor in model.inputs}
    tensors |= {tensor.name: tensor for node in nodes for tensor in node.outputs}
    made: list[gs.Node] = []
    for number in plan.guarded:
        (tensor,) = nodes[number].outputs
        writer = Writer(model, model.graph, tensor.name, names)
        exact = writer.variable("floats")
        exact.dtype = tensor.dtype
        _hand_over(tensor, exact)
        _hand_over(writer.op("LeakyRelu", exact, alpha=1.0), tensor)  # which changes nothing
        made += writer.made
    for operand in plan.operands:
        node = nodes[operand.node]
        old = node.inputs[operand.slot]
        writer = Writer(model, model.graph, old.name, names)
        node.inputs[operand.slot] = style.constant(writer, operand.stored, operand.is_folded)
        made += writer.made
    for rounding in plan.roundings:
        tensor = tensors[rounding.tensor]
        writer = Writer(model, model.graph, tensor.name, names)
        if rounding.readers:
            result = style.rounded(writer, tensor, rounding)
            for number, slot in rounding.readers:
                nodes[number].inputs[slot] = result
        else:
            exact = writer.variable("exact")
            exact.dtype = tensor.dtype
            _hand_over(tensor, exact)
            _hand_over(style.rounded(writer, exact, rounding), tensor)
        made += writer.made
    model.graph.nodes.extend(made)
    sort_nodes(model.graph)
    drop_unused(model.graph)


def _place(writer: Writer, codes: np.dtype[np.generic], count: int) -> None:
    """Put the last nodes of a writer, quantisers of such codes, into the domain that has them."""
    if codes.itemsize == 2 and writer.model.opset < _WIDE_OPSET:
        writer.model.opsets.setdefault(_MICROSOFT, 1)
        for node in writer.made[-count:]:
            node.domain = _MICROSOFT


def _hand_over(tensor: gs.Variable, other: gs.Variable) -> None:
    """Let the node that writes a tensor write another one instead."""
    maker = tensor.inputs[0]
    maker.outputs[next(i for i, out in enumerate(maker.outputs) if out is tensor)] = other
