"""Which tensors never go below zero, whatever a model is fed with."""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array
from graphrewrite.match.view import View, is_default_domain
from graphrewrite.passes.tidy.reading import source

_MAKING = frozenset(
    {"Abs", "Exp", "HardSigmoid", "ReduceL1", "ReduceL2", "Relu", "Sigmoid", "Softmax", "Softplus"}
)
_KEEPING = frozenset(
    {
        *("Add", "AveragePool", "Cast", "Concat", "DepthToSpace", "Dropout", "Flatten", "GlobalAveragePool"),
        *(
            "GlobalMaxPool",
            "Identity",
            "MaxPool",
            "Mul",
            "Reshape",
            "Slice",
            "Squeeze",
            "Transpose",
            "Unsqueeze",
        ),
    }
)
_FIRST_ONLY = frozenset(
    {"Reshape", "Slice", "Squeeze", "Unsqueeze", "Dropout"}
)  # other inputs are sizes and the like


class NonNegative:
    """Finds out by operators: those that give no negative numbers, and those that make none."""

    def __init__(self, view: View) -> None:
        self._names: set[str] = set()
        for node in view.nodes():
            if is_default_domain(node) and self._is_made(view, node):
                self._names |= {out.name for out in node.outputs}

    def holds(self, name: str) -> bool:
        """Tell whether a tensor of the model's main graph has no negative numbers."""
        return name in self._names

    def _is_made(self, view: View, node: gs.Node) -> bool:
        if node.op in _MAKING:
            return True
        if node.op == "Clip":
            low = source(node, 1)
            bound = None if low is None else view.constant(low)
            return bound is not None and not _goes_below_zero(bound)
        read = node.inputs[:1] if node.op in _FIRST_ONLY else node.inputs
        return node.op in _KEEPING and all(self._is_kept(view, tensor) for tensor in read)

    def _is_kept(self, view: View, tensor: gs.Tensor) -> bool:
        values = view.constant(tensor) if view.is_constant(tensor) else None
        return tensor.name in self._names if values is None else not _goes_below_zero(values)


def _goes_below_zero(values: Array) -> bool:
    return bool(np.less(values, 0).any())
