"""Operators that add: sums, and onnxruntime's sums with a norm or a requantization behind them.

What is left of such an operator when one operand is gone: of a sum the other operand; of a sum with a norm the norm of
the other (and its bias), as of a post-norm layer written out; of a quantized sum itself, with the zero point in place
of the operand, because its rounding belongs to what comes after.
"""

from typing import Final

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model, Namer, constant_value
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import add_constant, redirect, set_input

_MICROSOFT: Final = "com.microsoft"
# Operator -> the inputs that are added; all of them where None.
_SUMS: Final[dict[tuple[str, str], tuple[int, ...] | None]] = {
    ("", "Add"): None,
    ("", "Sum"): None,
    ("", "Sub"): None,
    (_MICROSOFT, "SkipLayerNormalization"): (0, 1),
    (_MICROSOFT, "SkipSimplifiedLayerNormalization"): (0, 1),
    (_MICROSOFT, "QLinearAdd"): (0, 3),
}


def summed(node: gs.Node) -> tuple[int, ...]:
    """Return the inputs a node adds, none where it is no sum."""
    domain = domain_name(node.domain)
    if (domain, node.op) not in _SUMS:
        return ()
    slots = _SUMS[domain, node.op]
    return tuple(range(len(node.inputs))) if slots is None else slots


def is_plain(node: gs.Node) -> bool:
    """Whether nothing but the sum is left of a sum: without one of two operands it is the other."""
    return not domain_name(node.domain)


def is_normed(node: gs.Node) -> bool:
    """Whether a sum has its norm with it."""
    return not is_plain(node) and node.op.startswith("Skip")


def results(node: gs.Node) -> list[gs.Tensor]:
    """Return the outputs that carry the summed stream on: the sum, where it is an output, and its norm."""
    outputs = [tensor for tensor in node.outputs if tensor.name]
    return [t for t in (node.outputs[3:4] if is_normed(node) else ()) if t.name] + outputs[:1]


def obstacle(node: gs.Node, opset: int, returned: bool) -> str:
    """Return why a sum cannot do without an operand, "" where it can; `returned`: the model returns what it makes."""
    if not is_normed(node):
        return ""
    if returned:
        return "the model returns what a fused sum and norm make"
    if any(len(tensor.outputs) for tensor in node.outputs[1:3]):
        return "something reads the mean or deviation of a fused sum and norm"
    gain = constant_value(node.inputs[2])
    if gain is None or gain.dtype != np.float32:
        return "a fused sum and norm with a gain that is not constant, or not in single precision"
    if node.op == "SkipLayerNormalization" and opset < 17:
        return f"a norm without a sum needs operator set 17, the model has {opset}"
    return ""


def zero_of(node: gs.Node, slot: int) -> gs.Tensor | None:
    """Return the tensor that stands for zero in an operand of a quantized sum, None where that is the number zero."""
    given = node.op == "QLinearAdd" and slot + 2 < len(node.inputs) and node.inputs[slot + 2].name
    return node.inputs[slot + 2] if given else None


def without_operand(model: Model, node: gs.Node, slot: int, before: dict[int, list[gs.Node]]) -> bool:
    """Let a fused sum do without one operand, in place; return whether the node itself is to go.

    `before` collects the nodes that have to stand before this one.
    """
    if not is_normed(node):
        zero = zero_of(node, slot)
        if zero is None:
            first = constant_value(node.inputs[2])
            kind = np.uint8 if first is None else first.dtype
            zero = add_constant(
                model.graph, Namer(model.graph).fresh(f"{node.name}.zero"), np.zeros((), kind)
            )
        set_input(node, slot, zero)
        return False
    _Norm(model, node, slot, before).write()
    return True


class _Norm:
    """The nodes that take the place of a fused sum and norm of which one operand is gone."""

    def __init__(self, model: Model, node: gs.Node, slot: int, before: dict[int, list[gs.Node]]) -> None:
        self.model = model
        self.node = node
        self.stream: gs.Tensor = node.inputs[1 - slot]
        self._tensors = Namer(model.graph)
        self._names = Namer(model.graph, nodes=True)
        self._new = before.setdefault(id(node), [])

    def write(self) -> None:
        """Emit the bias and the norm, and let them make what the node made."""
        simple = self.node.op == "SkipSimplifiedLayerNormalization"
        bias = self._given(3 if simple else 4)
        if bias is not None:
            self.stream = self._emit("Add", self.stream, bias)
        epsilon = float(self.node.attrs.get("epsilon", 1e-12))
        norm = self._mean_square(epsilon) if simple else self._layer_norm(epsilon)
        for output, made in ((0, norm), (3, self.stream)):
            if output < len(self.node.outputs) and self.node.outputs[output].name:
                redirect(self.model.graph, self.node.outputs[output], made)

    def _given(self, slot: int) -> gs.Tensor | None:
        there = slot < len(self.node.inputs) and self.node.inputs[slot].name
        return self.node.inputs[slot] if there else None

    def _layer_norm(self, epsilon: float) -> gs.Tensor:
        operands = [self.stream, self.node.inputs[2]]
        offset = self._given(3)
        if offset is not None:
            operands.append(offset)
        return self._emit("LayerNormalization", *operands, axis=-1, epsilon=epsilon)

    def _mean_square(self, epsilon: float) -> gs.Tensor:
        gain = self.node.inputs[2]
        if self.model.opset >= 23:
            return self._emit("RMSNormalization", self.stream, gain, axis=-1, epsilon=epsilon)
        square = self._emit("Mul", self.stream, self.stream)
        if self.model.opset >= 18:
            mean = self._emit(
                "ReduceMean", square, self._constant("axes", np.array([-1], np.int64)), keepdims=1
            )
        else:
            mean = self._emit("ReduceMean", square, axes=[-1], keepdims=1)
        # An attribute in the fused operator, no weight: it stays an attribute.
        one = self._constant("one", np.array([1], np.int64))
        value = gs.Constant("", np.array([epsilon], np.float32))
        shifted = self._emit("Add", mean, self._emit("ConstantOfShape", one, value=value))
        return self._emit("Mul", self._emit("Div", self.stream, self._emit("Sqrt", shifted)), gain)

    def _constant(self, what: str, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> gs.Constant:
        return add_constant(self.model.graph, self._tensors.fresh(f"{self.node.name}.{what}"), values)

    def _emit(self, op: str, *inputs: gs.Tensor, **attrs: object) -> gs.Variable:
        name = self._names.fresh(f"{self.node.name or 'skip'}.{op.lower()}")
        out = gs.Variable(self._tensors.fresh(f"{name}_out"), dtype=np.float32)
        self._new.append(gs.Node(op, name, dict(attrs), list(inputs), [out]))
        return out


__all__ = ["is_normed", "is_plain", "obstacle", "results", "summed", "without_operand", "zero_of"]
