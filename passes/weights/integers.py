"""Layers whose weights and inputs are whole numbers, written as operators on integers or slowly on floats.

Both say the same to the last bit: sums of products of bytes are exact in 32-bit integers as in 64-bit floats.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model, constant_value
from graphrewrite.ir.edit import all_graphs, drop_unused
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.passes.quant.plan import name_of
from graphrewrite.passes.tidy.reading import integer, real, source
from graphrewrite.passes.weights.blocks import Singles, rounded
from graphrewrite.passes.weights.outcomes import row
from graphrewrite.passes.weights.sites import Site
from graphrewrite.pipeline.base import Json

_FLOAT, _DOUBLE = 1, 11  # element types
_TOP = 255  # the highest code of an activation


class Layer(NamedTuple):
    """A layer as it will be: `codes` in the shape of the weight, `steps` [outputs] or [1], what the details say."""

    site: Site
    codes: Array
    steps: Singles
    row: dict[str, Json]


def in_bytes(site: Site, bits: int, per_channel: bool) -> Layer:
    """Round what a site reads to whole codes, with a step for each output or one for all."""
    values = constant_value(site.weight)
    assert values is not None
    rows = site.rows.of(values) if per_channel else site.rows.of(values).reshape(1, -1)
    blocks = rounded(rows, bits, 0, negative=False)
    factor = real(site.node, "alpha", 1.0) if site.node.op == "Gemm" else 1.0
    return Layer(
        site,
        site.rows.restore(blocks.codes, values.shape),
        np.asarray(blocks.steps.reshape(-1) * np.float32(factor)),
        row(site, bits, int(blocks.steps.size), blocks.away(rows)),
    )


class Coded(NamedTuple):
    """An activation: its codes, the step between them, and the code of zero, which floats have taken off already."""

    codes: gs.Variable
    step: gs.Variable
    zero: gs.Variable | None


class Style(Protocol):
    """How rounded activations, and products of whole numbers, are written."""

    def coded(self, writer: Writer, x: gs.Tensor) -> Coded:
        """Return the codes of an activation."""
        ...

    def product(self, writer: Writer, x: Coded, layer: Layer, codes: Array) -> gs.Variable:
        """Return the whole numbers that a layer makes, as floats; `codes` are [inputs, outputs], or a kernel."""
        ...


class Integers:
    """DynamicQuantizeLinear, MatMulInteger and ConvInteger, in the pattern that onnxruntime fuses."""

    def coded(self, writer: Writer, x: gs.Tensor) -> Coded:
        """Round by the standard's operator."""
        return Coded(*writer.all("DynamicQuantizeLinear", x, outputs=3))

    def product(self, writer: Writer, x: Coded, layer: Layer, codes: Array) -> gs.Variable:
        """Multiply integers."""
        assert x.zero is not None
        operands = (x.codes, writer.constant(codes, "codes"), x.zero)
        if layer.site.node.op == "Conv":
            made = writer.op("ConvInteger", *operands, **layer.site.node.attrs)
        else:
            made = writer.op("MatMulInteger", *operands)
        return writer.op("Cast", made, to=_FLOAT)


class Floats:
    """The same in floats: ranges, divisions and roundings one by one."""

    def coded(self, writer: Writer, x: gs.Tensor) -> Coded:
        """Round to 256 levels between the ends of what there is, and zero."""
        none, top = writer.floats(np.array(0.0), "none"), writer.floats(np.array(_TOP), "top")
        low = writer.op("Min", writer.op("ReduceMin", x, keepdims=0), none)
        high = writer.op("Max", writer.op("ReduceMax", x, keepdims=0), none)
        tiny = writer.floats(np.array(np.finfo(np.float32).tiny), "tiny")
        step = writer.op("Max", writer.op("Div", writer.op("Sub", high, low), top), tiny)
        zero = writer.op("Round", writer.op("Clip", writer.op("Div", writer.op("Neg", low), step), none, top))
        codes = writer.op("Add", writer.op("Round", writer.op("Div", x, step)), zero)
        return Coded(writer.op("Sub", writer.op("Clip", codes, none, top), zero), step, None)

    def product(self, writer: Writer, x: Coded, layer: Layer, codes: Array) -> gs.Variable:
        """Multiply whole numbers: in double precision, but for convolutions, which have no such kernel."""
        if layer.site.node.op == "Conv":
            return writer.op("Conv", x.codes, writer.floats(codes, "codes"), **layer.site.node.attrs)
        wide = writer.op("Cast", x.codes, to=_DOUBLE)
        made = writer.op("MatMul", wide, writer.constant(codes.astype(np.float64), "codes"))
        return writer.op("Cast", made, to=_FLOAT)


def write(model: Model, layers: Sequence[Layer], style: Style) -> None:
    """Put what a style makes of each layer in its place, found by number; what several layers read is rounded once."""
    names = Names(model)
    every = [(graph, node) for graph in all_graphs(model.graph) for node in graph.nodes]
    coded: dict[tuple[int, int], Coded] = {}
    for layer in layers:
        graph, node = every[layer.site.place]
        writer = Writer(model, graph, name_of(node), names)  # the site's own may have been written already
        x = node.inputs[0]
        key = id(graph), id(x)
        if key not in coded:
            coded[key] = style.coded(writer, x)
        codes, spread = layer.codes, layer.steps
        if node.op == "Conv":
            spread = spread.reshape(-1, *(1,) * (codes.ndim - 2))
        elif integer(node, "transB", 0):
            codes = np.ascontiguousarray(codes.T)
        made = style.product(writer, coded[key], layer, codes)
        worth = writer.op(
            "Mul", coded[key].step, writer.floats(spread if spread.size > 1 else spread.reshape(()), "steps")
        )
        result = writer.op("Mul", made, worth)
        added = source(node, 2)
        if added is not None:
            result = writer.op("Add", result, _bias(writer, node, added, codes.ndim - 2))
        writer.take_place(node, result)
    drop_unused(model.graph)


def _bias(writer: Writer, node: gs.Node, added: gs.Tensor, space: int) -> gs.Tensor:
    """Return what a layer adds, with an axis for each one of space where it is a convolution's."""
    if node.op != "Conv":
        return added
    return writer.op("Reshape", added, writer.ints([-1, *(1,) * space], "spread"))
