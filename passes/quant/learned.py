"""What training has left of quantizers in a graph, read back, and written so that integer kernels take it up."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.bridge.statistics import part
from graphrewrite.bridge.weights import stored
from graphrewrite.ir import Array, Model
from graphrewrite.ir.edit import producer, redirect, remove_nodes
from graphrewrite.ir.values import constant_value
from graphrewrite.match.view import is_default_domain
from graphrewrite.passes.factor.writer import Writer
from graphrewrite.passes.quant.aware import Placed
from graphrewrite.passes.quant.grid import GRIDS, Scale, Singles, Stored, along, least_steps, stored_bias
from graphrewrite.passes.quant.plan import Layer, name_of
from graphrewrite.passes.quant.write import Operand, Plan, Quantisers, Rounding, Simulated, write
from graphrewrite.passes.tidy.reading import source

_BYTE = GRIDS["uint8"]


@dataclass(frozen=True)
class Steps:
    """Whole steps from `low` to `high`, and the code of zero.

    Codes are uint8 also of what goes below zero: kernels add only codes of one type to each other.
    """

    step: float
    low: int
    high: int
    zero: int

    def cut(self, low: float, high: float) -> "Steps":
        """Return the form that rounds as this one does what was cut to two values before: rounding keeps order."""
        ends = np.clip(
            np.rint(np.array([low, high], np.float32) / np.float32(self.step)), self.low, self.high
        )
        return replace(self, low=int(ends[0]), high=int(ends[1]))

    def whole(self) -> "Steps":
        """Return the form for numbers that are on the grid already: nothing is left to cut."""
        return replace(self, low=-self.zero, high=255 - self.zero)

    def quantised(self, writer: Writer, x: gs.Tensor) -> gs.Variable:
        """Write quantisers, and a Clip of codes where the byte holds more."""
        step, zero = writer.floats(np.asarray(self.step), "step"), writer.constant(_byte(self.zero), "zero")
        codes = writer.op("QuantizeLinear", x, step, zero)
        low, high = self.low + self.zero, self.high + self.zero
        if (low, high) != (0, 255):
            ends = writer.constant(_byte(low), "low"), writer.constant(_byte(high), "high")
            codes = writer.op("Clip", codes, *ends)
        return writer.op("DequantizeLinear", codes, step, zero)

    def simulated(self, writer: Writer, x: gs.Tensor) -> gs.Variable:
        """Divide, round, cut, multiply."""
        step, low, high = (
            writer.floats(np.asarray(each), "steps") for each in (self.step, self.low, self.high)
        )
        return writer.op(
            "Mul", writer.op("Clip", writer.op("Round", writer.op("Div", x, step)), low, high), step
        )


@dataclass(frozen=True)
class Counts:
    """How many of some thresholds a number exceeds, times a step; `zero` of them stand for zero."""

    step: float
    zero: int
    thresholds: tuple[float, ...]

    def quantised(self, writer: Writer, x: gs.Tensor) -> gs.Variable:
        """Write our operator that counts."""
        codes = writer.custom("ThresholdQuantize", [x, self._written(writer)])
        step = writer.floats(np.asarray(self.step), "step")
        return writer.op(
            "DequantizeLinear", codes, step, writer.constant(np.array(self.zero, np.uint8), "zero")
        )

    def simulated(self, writer: Writer, x: gs.Tensor) -> gs.Variable:
        """Compare, add up, multiply."""
        last = writer.ints([-1], "last")
        above = writer.op("Greater", writer.op("Unsqueeze", x, last), self._written(writer))
        count = writer.op("ReduceSum", writer.op("Cast", above, to=1), last, keepdims=0)
        beyond = writer.op("Sub", count, writer.floats(np.asarray(self.zero), "zero"))
        return writer.op("Mul", beyond, writer.floats(np.asarray(self.step), "step"))

    def _written(self, writer: Writer) -> gs.Constant:
        return writer.floats(np.asarray(self.thresholds), "thresholds")


class Weight(NamedTuple):
    """Codes of a weight, and what a step is worth: [] or one for each position of `axis`."""

    codes: Array
    steps: Singles
    axis: int


class Learned(NamedTuple):
    """What was read: the trained floats in the graph that was trained, codes of weights, forms of activations."""

    model: Model
    weights: Mapping[str, Weight]
    forms: Mapping[str, Steps | Counts]

    def grid(self, name: str) -> Steps:
        """Return the form of a tensor that bytes of are moved about, which is no count."""
        found = self.forms[name]
        assert isinstance(found, Steps)
        return found


def read(placed: Placed, trained: Model) -> Learned:
    """Read the codes and grids that a trained model holds, which was made from a placed one."""
    makers = {out.name: node for node in trained.graph.nodes for out in node.outputs}
    weights: dict[str, Weight] = {}
    forms: dict[str, Steps | Counts] = {}
    for node in trained.graph.nodes:
        if node.op != "DequantizeLinear":
            continue
        codes = constant_value(node.inputs[0])
        if codes is not None:
            weights[node.inputs[0].name] = Weight(
                np.asarray(codes), _floats(node.inputs[1]), int(node.attrs.get("axis", 0))
            )
            continue
        source, form = _form(node, makers[node.inputs[0].name])
        # A graph's output keeps its name, and what it was called before has a longer one.
        forms[node.outputs[0].name if node.outputs[0] in trained.outputs else source] = form
    model = placed.model.clone()
    part(model)
    found = stored(trained)
    for name, entry in stored(model).items():
        if name in found and entry.tensor.name not in weights:
            entry.replace(found[name].array.copy())
    return Learned(model, weights, forms)


def written(placed: Placed, learned: Learned, integers: bool) -> Model:
    """Return the model with what was learned: as quantisers of `integers`, or with every rounding in floats."""
    model = learned.model.clone()
    by_output = {node.outputs[0].name: node for node in model.graph.nodes}
    layers = [(by_output[layer.node.outputs[0].name], layer) for layer in placed.choice.layers.values()]
    rounded = placed.choice.rounded
    forms = {**learned.forms, **{name: learned.forms[whose] for name, whose in rounded.items()}}
    casts = [by_output[name] for name in placed.casts]
    operands = [
        (node, slot, codes)
        for node, layer in layers
        for slot, codes in _codes(node, layer, learned, forms[node.inputs[0].name].step, placed)
    ]
    if integers:
        forms |= dict(_cut(model, forms))
        moved = {name: whose for name, whose in rounded.items() if name != whose}
        forms |= {name: learned.grid(whose).whole() for name, whose in moved.items()}
    numbers = {id(node): number for number, node in enumerate(model.graph.nodes)}
    plan = Plan(
        [Operand(numbers[id(node)], slot, codes) for node, slot, codes in operands],
        [Rounding(name, Scale(form.step, 0), form=form) for name, form in forms.items()],
    )
    write(model, plan, Quantisers(_BYTE) if integers else Simulated(_BYTE))
    for cast in casts:
        redirect(model.graph, cast.outputs[0], cast.inputs[0])
    remove_nodes(model.graph, casts)
    return model


def _codes(
    node: gs.Node, layer: Layer, learned: Learned, input_step: float, placed: Placed
) -> Iterator[tuple[int, Stored]]:
    """Yield the codes of a layer's weight, and those of its bias, in units of the input's step times the weight's."""
    codes, steps, axis = learned.weights[node.inputs[1].name]
    bits = placed.bits[name_of(layer.node)]
    top = 1 << (bits - 1)
    bias = None
    if layer.bias is not None:
        bias = np.asarray(constant_value(node.inputs[layer.bias]), np.float64).reshape(-1)
        least = least_steps(bias, input_step)
        least = least if steps.ndim else least.max(initial=0.0)
        # A step that a bias does not fit is too small for the weight to matter beside it.
        kept = along(np.asarray(steps >= least, np.float32), axis, codes.ndim)
        codes = np.where(kept > 0, codes, np.zeros((), codes.dtype))
        steps = np.maximum(steps, least).astype(np.float32)
    # Odd codes reach twice as far; with zeros among them they are filed as bytes.
    is_even = -top <= int(codes.min()) and int(codes.max()) < top
    is_odd = bool((codes % 2 != 0).all())
    bits = bits if is_even or is_odd else 8
    yield 1, Stored(codes, steps, axis, bits=bits, apart=1 if is_even or not is_odd else 2)
    if layer.bias is not None and bias is not None:
        yield layer.bias, stored_bias(bias, input_step, steps)


def _cut(model: Model, forms: Mapping[str, Steps | Counts]) -> Iterator[tuple[str, Steps]]:
    """Take out what cuts a tensor to two values just before it is rounded, and yield forms that cut codes instead.

    So the layer and the quantiser stay neighbours, which is what integer kernels are made of.
    """
    kept = {tensor.name for tensor in model.outputs} | forms.keys()
    for node in list(model.graph.nodes):
        form, read = forms.get(node.outputs[0].name), node.inputs[0] if node.inputs else None
        if not isinstance(form, Steps) or read is None or read.name in kept or len(read.outputs) != 1:
            continue
        maker, ends = producer(read), _ends(node)
        if maker is None or ends is None:
            continue
        out = node.outputs[0]
        remove_nodes(model.graph, [node])
        maker.outputs[next(i for i, each in enumerate(maker.outputs) if each is read)] = out
        yield out.name, form.cut(*ends)


def _ends(node: gs.Node) -> tuple[float, float] | None:
    """Return the two values that a node cuts its input to, None where it does something else."""
    if not is_default_domain(node):
        return None
    if node.op == "Relu":
        return 0.0, float("inf")
    if node.op != "Clip" or source(node, 1) is None or source(node, 2) is None:
        return None
    low, high = (constant_value(tensor) for tensor in node.inputs[1:3])
    if low is None or high is None:
        return None
    return float(np.asarray(low).reshape(-1)[0]), float(np.asarray(high).reshape(-1)[0])


def _form(end: gs.Node, maker: gs.Node) -> tuple[str, Steps | Counts]:
    """Return the name of the tensor that a DequantizeLinear stands at the end of the rounding of, and its form."""
    step, zero = float(_floats(end.inputs[1])), np.asarray(constant_value(end.inputs[2]))
    if maker.op == "Cast":  # of a count
        above = _before(_before(_before(maker)))
        counted = tuple(map(float, _floats(above.inputs[1])))
        return _before(above).inputs[0].name, Counts(step, int(zero), counted)
    low, high = (-128, 127) if zero.dtype == np.int8 else (0, 255)
    if maker.op == "Clip":
        low, high = (int(np.asarray(constant_value(each))) for each in maker.inputs[1:3])
        maker = _before(maker)
    return maker.inputs[0].name, Steps(step, low, high, 128 if zero.dtype == np.int8 else 0)


def _before(node: gs.Node) -> gs.Node:
    found = producer(node.inputs[0])
    assert found is not None
    return found


def _floats(tensor: gs.Tensor) -> Singles:
    return np.asarray(constant_value(tensor), np.float32)


def _byte(code: int) -> Array:
    return np.array(code, np.uint8)
