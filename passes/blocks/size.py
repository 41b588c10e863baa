"""How large a branch is by its weights: what its last layers would add, were their inputs of unit size."""

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.cost.registry import RULES, key_of
from graphrewrite.ir import Model, constant_value
from graphrewrite.ir.edit import producer
from graphrewrite.passes.blocks.block import Block

Floats = npt.NDArray[np.float64]

# What these give lies within [-1, 1], whatever goes in.
_BOUNDED = frozenset({"Sigmoid", "HardSigmoid", "Tanh", "Softmax", "Softsign", "Erf", "Sin", "Cos"})
# What these give is made of all their inputs; other operators carry their first one along.
_OF_ALL = frozenset({"Add", "Sum", "Sub", "Mul", "MatMul", "Concat", "Max", "Min", "Mean", "Where"})
_NORMS = frozenset({"LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization"})


def expected_size(block: Block, model: Model, power: int) -> float:
    """Return the expected size of what a branch adds, in the norm of this power (1 or 2).

    Followed backwards from the branch's end to the layers that multiply by a weight: their inputs count as one, their
    weights as the sum of |w|^power per output; scales multiply, sums and biases add, norms start again at one.
    """
    measure = _Measure(model, block, power)
    return float(measure.size(model.graph.nodes[block.join].inputs[block.slot]) ** (1 / power))


class _Measure:
    """One walk through the tail of a branch; sizes are to the given power, so that they add and multiply."""

    def __init__(self, model: Model, block: Block, power: int) -> None:
        self.power = power
        self._own = {id(model.graph.nodes[index]) for index in block.nodes}
        self._known: dict[int, float] = {}
        self._values: dict[int, Floats | None] = {}

    def size(self, tensor: gs.Tensor) -> float:
        """Return the size of a tensor of the branch; what comes from outside it counts as one."""
        stack = [tensor]
        while stack:  # not by recursion: a tail may be long
            node = producer(stack[-1])
            if id(stack[-1]) in self._known:
                stack.pop()
            elif node is None or id(node) not in self._own:
                self._known[id(stack.pop())] = 1.0
            else:
                missing = [t for t in self._looked_at(node) if id(t) not in self._known]
                if missing:
                    stack.extend(missing)
                else:
                    self._known[id(stack.pop())] = self._of(node)
        return self._known[id(tensor)]

    def _looked_at(self, node: gs.Node) -> list[gs.Tensor]:
        """Return the inputs a node's size depends on: none of a layer's, the first of most others'."""
        if node.op in _BOUNDED or node.op in _NORMS or self._weight(node) is not None:
            return []
        data = [t for t in node.inputs if t.name and constant_value(t) is None and self._value(t) is None]
        if node.op == "Where":
            return [t for t in data if t is not node.inputs[0]]
        return data if node.op in _OF_ALL else data[:1]

    def _of(self, node: gs.Node) -> float:
        weight = self._weight(node)
        if weight is not None:
            others = [value for value in self._constants(node) if value is not weight]
            return self._sum(weight) / max(_outputs(node, weight), 1) + sum(map(self._mean, others))
        if node.op in _NORMS:
            return sum(map(self._mean, self._constants(node))) if self._constants(node) else 1.0
        if node.op == "BatchNormalization":
            return self._batchnorm(node)
        given = [self._known[id(t)] for t in self._looked_at(node)]
        return self._combined(node, given)

    def _combined(self, node: gs.Node, given: list[float]) -> float:
        constants = [self._mean(value) for value in self._constants(node)]
        combine: Mapping[str, Callable[[list[float]], float]] = {
            "Mul": lambda sizes: float(np.prod(sizes)),
            "MatMul": lambda sizes: float(np.prod(sizes)),  # of two activations: attention, which averages
            "Add": sum,
            "Sum": sum,
            "Sub": sum,
        }
        if node.op in combine:
            return combine[node.op]([*given, *constants])
        if node.op == "Div" and given and constants and self._value(node.inputs[1]) is not None:
            return given[0] / (constants[0] or 1.0)
        return max(given, default=1.0)

    def _batchnorm(self, node: gs.Node) -> float:
        inner = self._known.get(id(node.inputs[0]), 1.0)
        found = self._constants(node)
        if len(found) < 4:
            return inner
        gain, offset, mean, variance = found
        scale = gain / np.sqrt(variance + float(node.attrs.get("epsilon", 1e-5)))
        return inner * self._mean(scale) + self._mean(offset - mean * scale)

    def _weight(self, node: gs.Node) -> Floats | None:
        """Return the weight a node multiplies by in a product, None for nodes that are no such layer."""
        rule = RULES.get(key_of(node.domain, node.op))
        if rule is None or rule.macs is None:
            return None
        found = [value for value in self._constants(node) if value.ndim > 1]
        return max(found, key=lambda value: value.size, default=None)

    def _constants(self, node: gs.Node) -> list[Floats]:
        values = (self._value(tensor) for tensor in node.inputs if tensor.name)
        return [value for value in values if value is not None]

    def _value(self, tensor: gs.Tensor) -> Floats | None:
        if id(tensor) not in self._values:
            self._values[id(tensor)] = known_value(tensor)
        return self._values[id(tensor)]

    def _sum(self, values: Floats) -> float:
        return float((np.abs(values) ** self.power).sum())

    def _mean(self, values: Floats) -> float:
        return self._sum(values) / max(values.size, 1)


def _outputs(node: gs.Node, weight: Floats) -> int:
    """Return how many outputs a layer's weight makes at one position."""
    shape = [int(size) for size in weight.shape]
    if node.op == "ConvTranspose":
        return shape[1] * int(node.attrs.get("group", 1))
    if node.op == "Conv" or (node.op == "Gemm" and node.attrs.get("transB", 0)):
        return shape[0]
    if node.op in ("LSTM", "GRU", "RNN") or known_value(node.inputs[0]) is not None:  # [.., outputs, inputs]
        return prod(shape[:-1])
    return prod(shape[:-2]) * shape[-1]


def known_value(tensor: gs.Tensor) -> Floats | None:
    """Return the numbers of a constant, also behind a cast, a transposition or a dequantization; None otherwise."""
    value = constant_value(tensor)
    if value is not None:
        return np.asarray(value, dtype=np.float64) if value.dtype.kind not in "OSUb" else None
    node = producer(tensor)
    if node is None or node.op not in ("Cast", "Identity", "Transpose", "DequantizeLinear"):
        return None
    inner = known_value(node.inputs[0])
    if inner is None or node.op in ("Cast", "Identity"):
        return inner
    if node.op == "Transpose":
        return inner.transpose(node.attrs.get("perm"))
    scale, zero = (known_value(t) if t.name else None for t in [*node.inputs[1:], gs.Variable.empty()][:2])
    if scale is None:
        return None
    shifted = inner - (0.0 if zero is None else _along(zero, inner, node))
    return shifted * _along(scale, inner, node)


def _along(scale: Floats, values: Floats, node: gs.Node) -> Floats:
    """Shape the scales of a dequantization so that they apply along its axis, or to its blocks."""
    if scale.size == 1:
        return scale.reshape(-1)
    axis = int(node.attrs.get("axis", 1)) % values.ndim
    if scale.ndim == 1:
        return scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    size = int(node.attrs.get("block_size", 1)) or 1
    return np.repeat(scale, size, axis=axis).take(range(values.shape[axis]), axis=axis)
