"""The pass that rounds weights to few bits and lets LowBitMatMul multiply with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.cost.speeds import Work, positions
from graphrewrite.custom_ops.ops.low_bit_mat_mul.pack import (
    Codes,
    Halves,
    pack,
    pack_scales,
    unpack,
    unpack_scales,
)
from graphrewrite.custom_ops.spec import OLDEST_OPSET
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Model, constant_value
from graphrewrite.ir.edit import all_nodes, drop_unused, remove_nodes
from graphrewrite.ir.garbage import paused
from graphrewrite.ir.shapes import infer
from graphrewrite.passes.factor.layers import Layer, Left, layers
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.passes.lowbit.quantise import Quantised, Singles, quantised
from graphrewrite.passes.lowbit.reference import slow
from graphrewrite.passes.lowbit.worth import why_slower
from graphrewrite.passes.patterns import as_tuples, check_weights_named, why_left
from graphrewrite.passes.when import check_when
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json
from graphrewrite.runtime.speeds import known_speeds

_MOST_INPUTS = 131072  # of a LowBitMatMul


@passes.register("lower_low_bit")
@dataclass(frozen=True)
class LowerLowBit:
    """Round the weights of matrix products to few bits and multiply with them as they are, by LowBitMatMul.

    Args:
        bits: 1 (signs), 2 (four levels, or three where these are nearer) or 4 (sixteen levels).
        group: inputs that share a scale, a multiple of 16 up to 4096; 0 for one scale per output, which is fastest.
        rows: how many rows a product is taken to have where the graph does not say, such as samples of a batch.
        when: "faster" lowers a product only where measured speeds foretell a gain (see LowerBlockSparse), and no weight
            so small that a call costs more; "always" lowers all, for files that are to be small or to run elsewhere.
        only: patterns (`*` is any text) of the nodes to lower; empty for all.
        skip: patterns of nodes to leave alone.

    Nodes in bodies of loops are layers like others. The claim is equality with the graph whose
    weights are what the codes stand for and whose activations are rounded to 255 levels per row; how far each weight is
    from the original is in the details.
    """

    bits: int = 2
    group: int = 64
    rows: int = 1
    when: str = "faster"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    claim: ClassVar[Claim] = SameAs(1e-5, "the input model with rounded weights and rows")

    def __post_init__(self) -> None:
        if self.bits not in (1, 2, 4) or isinstance(self.bits, bool):
            raise InvalidConfig(f"LowerLowBit.bits is {self.bits!r}; expected 1, 2 or 4")
        if isinstance(self.group, bool) or not 0 <= self.group <= 4096 or self.group % 16:
            raise InvalidConfig(
                f"LowerLowBit.group is {self.group!r}; expected a multiple of 16 up to 4096, "
                "or 0 for one scale per output"
            )
        if isinstance(self.rows, bool) or self.rows < 1:
            raise InvalidConfig(f"LowerLowBit.rows is {self.rows!r}; expected a whole number of at least 1")
        check_when("LowerLowBit", self.when)
        as_tuples(self, "only", "skip")

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Lower every layer that gains by it."""
        if model.opset < OLDEST_OPSET:
            old = f"operator set {model.opset} is too old for function bodies; convert to {OLDEST_OPSET} or newer"
            return Outcome(model, False, (Note("skipped", "the whole model", old),))
        speeds = known_speeds() if self.when == "faster" else None
        before, shapes = model.clone(), infer(model)
        total = sum(node.op in ("MatMul", "Gemm") for node in all_nodes(model.graph))
        names: list[str] = []
        notes: list[Note] = []
        made: list[_Lowered] = []
        for each in layers(model):  # of the weights, one at a time is held as it was
            names.append(each.name)
            if context.progress is not None:
                context.progress("low bits", min(len(made) + len(notes), total), total)
            why: str | None = each.why if isinstance(each, Left) else self._why_not(each)
            if why is None and isinstance(each, Layer) and self.when == "faster":
                shape = shapes.shape(each.node.inputs[0].name)
                rows = self.rows if shape is None else positions(shape[:-1], self.rows)
                inputs, outputs = each.weight.shape
                why = why_slower(speeds, self.bits, Work(inputs, outputs, rows))
            if why is not None:
                notes.append(Note("skipped", each.name, why))
            elif isinstance(each, Layer):
                made.append(_lowered(each, quantised(each.weight.T, self.bits, self.group)))
        check_weights_named((*self.only, *self.skip), names)
        if not names:
            notes.append(Note("skipped", "the whole model", "it has no product with a constant weight"))
        if not made:
            return Outcome(before, False, tuple(notes), details={"layers": []})
        _write(model, made)
        notes.insert(0, Note("done", "layers", f"lowered {len(made)} of {len(names)} to {self.bits} bits"))

        def reference() -> Model:
            return slow(before, {each.place: (_single(each.weight().expand().T), each.bias) for each in made})

        return Outcome(model, True, tuple(notes), reference, {"layers": [each.row for each in made]})

    def _why_not(self, layer: Layer) -> str | None:
        left = why_left(layer.name, self.only, self.skip, "lower")
        if left is not None:
            return left
        if layer.kernel:
            return "a convolution; only matrix products have weights of few bits"
        if not layer.weight.size or layer.weight.shape[0] > _MOST_INPUTS:
            return f"it has {layer.weight.shape[0]} inputs; a product of few bits has 1 to {_MOST_INPUTS}"
        if not np.isfinite(layer.weight).all() or not np.isfinite(_bias(layer)).all():
            return "its weight or bias holds numbers that are not finite"
        return None


def _bias(layer: Layer) -> Array:
    return _single(np.zeros(layer.weight.shape[1]) if layer.bias is None else layer.bias)


def _single(values: Array) -> Array:
    return np.ascontiguousarray(values, dtype=np.float32)


class _Lowered(NamedTuple):
    """A layer as it will be: its codes and scales are packed already, `row` is what the details say of it."""

    place: int
    graph: gs.Graph
    node: gs.Node
    name: str
    bias: Array
    has_bias: bool
    codes: Codes
    scales: Halves
    gain: Singles
    attributes: Mapping[str, int]
    row: Json

    def weight(self) -> Quantised:
        """Return the weight again."""
        bits, outputs, depth = self.attributes["bits"], len(self.gain), self.attributes["depth"]
        return Quantised(
            unpack(self.codes, bits, outputs, depth),
            unpack_scales(self.scales, outputs),
            self.gain,
            self.attributes["offset"],
            self.attributes["group"],
            bits,
        )


def _lowered(layer: Layer, weight: Quantised) -> _Lowered:
    norm = float(np.linalg.norm(layer.weight))
    away = float(np.linalg.norm(layer.weight.T - weight.expand()))
    bits = weight.codes.size * weight.bits + weight.scales.size * 16 + weight.gain.size * 32
    row: Json = {
        "name": layer.name,
        "op": layer.node.op,
        "shape": [int(size) for size in layer.weight.shape],
        "bits": weight.bits,
        "group": weight.group,
        "levels": 3 if weight.offset == 2 else 1 << weight.bits,
        "bytes_before": int(layer.weight.size) * 4,
        "bytes_after": -(-bits // 8),
        "relative_error": away / norm if norm else 0.0,
    }
    attributes = {
        "bits": weight.bits,
        "group": weight.group,
        "offset": weight.offset,
        "depth": int(layer.weight.shape[0]),
    }
    return _Lowered(
        layer.place,
        layer.graph,
        layer.node,
        layer.name,
        _bias(layer),
        layer.bias is not None,
        pack(weight.codes, weight.bits),
        pack_scales(weight.scales),
        weight.gain,
        attributes,
        row,
    )


def _write(model: Model, made: list[_Lowered]) -> None:
    names = Names(model)
    for each in made:
        writer = Writer(model, each.graph, each.name, names)
        behind = _sum_behind(each)
        operands = (
            each.node.inputs[0],
            writer.constant(each.codes, "codes"),
            writer.constant(each.scales, "scales"),
            writer.floats(each.gain, "gain"),
            writer.floats(each.bias if behind is None else behind[1], "bias"),
        )
        result = writer.custom("LowBitMatMul", operands, each.attributes)
        node, name = result.inputs[0], each.node.name
        if behind is None:
            writer.take_place(each.node, result)
        else:
            writer.take_place(behind[0], result)
            remove_nodes(each.graph, [each.node])
        node.name = name or node.name
    drop_unused(model.graph)


def _sum_behind(layer: _Lowered) -> tuple[gs.Node, Array] | None:
    """Return the Add that alone reads a product, and the constant vector it adds, where that can be the bias."""
    out = layer.node.outputs[0]
    if layer.has_bias or len(out.outputs) != 1 or any(out is each for each in layer.graph.outputs):
        return None
    (reader,) = out.outputs
    # A reader inside a body of this graph adds each time round: there the product must stay outside.
    if reader.op != "Add" or reader.domain or not any(reader is each for each in layer.graph.nodes):
        return None
    values = constant_value(reader.inputs[1 if reader.inputs[0] is out else 0])
    outputs = len(layer.gain)
    if values is None or values.ndim > 1 or values.size not in (1, outputs) or not np.isfinite(values).all():
        return None
    return reader, _single(np.broadcast_to(values, (outputs,)))


__all__ = ["LowerLowBit"]
