"""From what was chosen and measured to a plan: codes of weights, biases and operands, and where tensors are rounded."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array
from graphrewrite.match.view import View
from graphrewrite.passes.quant.correct import seen_shares, taken
from graphrewrite.passes.quant.grid import (
    GRIDS,
    Scale,
    Stored,
    least_steps,
    stored_bias,
    stored_operand,
    stored_weight,
)
from graphrewrite.passes.quant.measure import Measured, Wanted
from graphrewrite.passes.quant.noise import noise_of
from graphrewrite.passes.quant.plan import Choice, Layer
from graphrewrite.passes.quant.rows import Reader
from graphrewrite.passes.quant.sites import sliding_of
from graphrewrite.passes.quant.write import PACKED, OnGrid, Operand, Plan, Rounding

_TAKEN_OVER = frozenset({"Conv", "ConvTranspose", "Gemm"})  # operators that onnxruntime rounds unasked
WIDE = "uint16"  # the grid of what layers with wide activations read


class Codes(NamedTuple):
    """A layer's weight as it was, its codes, and those of its bias."""

    before: Array
    weight: Stored
    bias: Stored | None


class Forms(NamedTuple):
    """How numbers are written: the grid of activations by name; bits, levels and steps of weights; corrected biases."""

    activations: str
    per_channel: bool
    weight_bits: int
    correct_bias: bool
    even_levels: bool = False


class Planner(NamedTuple):
    """Works out a plan for one choice on one graph."""

    view: View
    choice: Choice
    forms: Forms

    def wanted(self) -> tuple[Wanted, ...]:
        """Return the spans that are needed: of what layers read, and of what is rounded where it is made."""
        return tuple(dict.fromkeys(self._wanted()))

    def everything(self) -> tuple[Wanted, ...]:
        """Return all spans that are needed by this choice and by any of fewer layers or wide ones."""
        rounded = [Wanted(name, self.forms.activations) for name in self.choice.rounded]
        read = [
            Wanted(layer.node.inputs[0].name, grid)
            for layer in self.choice.layers.values()
            for grid in (self.forms.activations, WIDE)
        ]
        moved = [
            Wanted(tensor.name, self.forms.activations)
            for node in self.choice.products.values()
            for tensor in node.inputs
        ]
        return tuple(dict.fromkeys((*self._wanted(), *rounded, *read, *moved)))

    def _wanted(self) -> Iterator[Wanted]:
        for layer in self.choice.layers.values():
            yield self._wanted_by(layer)
        for node in self.choice.products.values():
            yield from (self._wanted_in(tensor.name) for tensor in node.inputs)
        for node in self.view.graph.nodes:
            read = (node.inputs[slot] for slot in self.choice.steady.get(id(node), ()))
            yield from (self._wanted_in(each.name) for each in read if not self.view.is_constant(each))
        for name in self.choice.rounded.values():
            yield Wanted(name, self.forms.activations)

    def _wanted_by(self, layer: Layer) -> Wanted:
        """Return which tensor's span scales what a layer reads, and for which grid."""
        return self._wanted_in(layer.node.inputs[0].name, WIDE if layer.tier.wide else self.forms.activations)

    def _wanted_in(self, tensor: str, grid: str = "") -> Wanted:
        is_rounded = tensor in self.choice.rounded
        grid = self.forms.activations if is_rounded or not grid else grid
        return Wanted(self.choice.rounded.get(tensor, tensor), grid)

    def means(self) -> dict[str, int]:
        """Return the tensors whose means are needed, with the axis of their channels."""
        return {
            layer.node.inputs[0].name: 1 if layer.node.op == "Conv" else -1
            for layer in self.choice.layers.values()
            if self.forms.correct_bias and layer.bias is not None and layer.node.op != "ConvTranspose"
        }

    def readers(self) -> tuple[Reader, ...]:
        """Return the layers whose steps are looked for by what they read: those of fewer than 8 bits."""
        layers = self.choice.layers.values()
        few = (layer for layer in layers if self._bits(layer) < 8 and layer.node.op != "ConvTranspose")
        return tuple(dict.fromkeys(self._reader(layer) for layer in few))

    def _bits(self, layer: Layer) -> int:
        return layer.tier.bits or self.forms.weight_bits

    def _reader(self, layer: Layer) -> Reader:
        weight = self.view.constant(layer.node.inputs[1])
        assert weight is not None
        return Reader(layer.node.inputs[0].name, sliding_of(layer.node, weight.shape[2:]))

    def codes(self, measured: Measured) -> dict[int, Codes]:
        """Return the codes of every layer, by the id of its node."""
        return {key: self._codes(layer, measured) for key, layer in self.choice.layers.items()}

    def _codes(self, layer: Layer, measured: Measured) -> Codes:
        node, bits, read = layer.node, self._bits(layer), layer.node.inputs[0].name
        weight = self.view.constant(node.inputs[1])
        assert weight is not None
        axis, apart = (
            layer.axis if self.forms.per_channel else None,
            2 if self.forms.even_levels and bits <= PACKED else 1,
        )
        is_sum = node.op != "ConvTranspose"  # whose outputs see a part of the window each
        moves_bias = is_sum and self.forms.correct_bias and layer.bias is not None and read in measured.means
        rows = measured.rows.get(self._reader(layer)) if bits < 8 and is_sum else None
        noise = None if rows is None else noise_of(rows, layer.axis, moves_bias)
        if layer.bias is None:
            return Codes(weight, stored_weight(weight, axis, bits, apart=apart, loss=noise), None)
        bias = self.view.constant(node.inputs[layer.bias])
        assert bias is not None
        flat = bias.reshape(-1).astype(np.float64)
        step = self._scale(self._wanted_by(layer), measured).step
        codes = stored_weight(weight, axis, bits, least_steps(flat, step), apart, noise)
        if moves_bias:
            lost = np.moveaxis(weight.astype(np.float64) - codes.expand(), layer.axis, 0)
            if node.op == "Conv":
                lost = lost * seen_shares(self.view, node, lost.shape[2:])
            flat = flat + taken(lost, measured.means[read])
        return Codes(weight, codes, stored_bias(flat, step, codes.steps))

    def plan(self, codes: Mapping[int, Codes], measured: Measured) -> Plan:
        """Return what is to be written."""
        choice, grid = self.choice, GRIDS[self.forms.activations]
        operands: list[Operand] = []
        read: dict[Wanted, list[tuple[int, int]]] = {}
        for number, node in enumerate(self.view.graph.nodes):
            if id(node) in choice.layers:
                layer, found = choice.layers[id(node)], codes[id(node)]
                operands.append(Operand(number, 1, found.weight, layer.tier.wide))
                if layer.bias is not None and found.bias is not None:
                    operands.append(Operand(number, layer.bias, found.bias, layer.tier.wide))
                if node.inputs[0].name not in choice.rounded:
                    read.setdefault(self._wanted_by(layer), []).append((number, 0))
            elif id(node) in choice.products:
                for slot, tensor in enumerate(node.inputs):
                    if tensor.name not in choice.rounded:
                        read.setdefault(self._wanted_in(tensor.name), []).append((number, slot))
            elif id(node) in choice.steady or (id(node) in choice.others and choice.is_mixing(node)):
                for slot in choice.steady.get(id(node), range(len(node.inputs))):
                    values, name = self.view.constant(node.inputs[slot]), node.inputs[slot].name
                    if values is not None:
                        operands.append(Operand(number, slot, stored_operand(values, grid)))
                    elif name not in choice.rounded:
                        read.setdefault(self._wanted_in(name), []).append((number, slot))
        roundings = [self._reading(each, tuple(readers), measured) for each, readers in read.items()]
        for name, whose in choice.rounded.items():
            wanted = Wanted(whose, self.forms.activations)
            roundings.append(Rounding(name, self._scale(wanted, measured)))
        return Plan(operands, roundings, self._guarded(roundings))

    def _guarded(self, roundings: Sequence[Rounding]) -> list[int]:
        """Return the layers that are to compute in floats although what they read and give is rounded."""
        rounded = {each.tensor for each in roundings}
        layers = self.choice.layers
        return [
            number
            for number, node in enumerate(self.view.graph.nodes)
            if node.op in _TAKEN_OVER
            and (id(node) not in layers or layers[id(node)].tier.wide)
            and node.inputs[0].name in rounded
            and self._comes_to(rounded, node.outputs[0])
        ]

    def _comes_to(self, rounded: Collection[str], tensor: gs.Tensor) -> bool:
        """Tell whether a tensor is rounded, at once or behind bounds."""
        user = self.view.sole_user(tensor)
        if tensor.name in rounded or user is None or user.op not in ("Clip", "Relu"):
            return tensor.name in rounded
        return self._comes_to(rounded, user.outputs[0])

    def _reading(self, wanted: Wanted, readers: tuple[tuple[int, int], ...], measured: Measured) -> Rounding:
        scale = self._scale(wanted, measured)
        is_own = wanted.grid != self.forms.activations
        return Rounding(wanted.tensor, scale, readers, OnGrid(GRIDS[wanted.grid], scale) if is_own else None)

    def _scale(self, wanted: Wanted, measured: Measured) -> Scale:
        return GRIDS[wanted.grid].scale(measured.spans[wanted])
