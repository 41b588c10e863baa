"""More operators that the exhaustive oracle knows: those whose pattern is that of an operator in `exhaustive_ops`.

Only what depends on what matters, so a function may stand for another with the same pattern.
"""

import numpy as np
import onnx_graphsurgeon as gs

from tests.support.exhaustive import TABLE, Floats, computed, nothing

# Each number alone.
ALONE = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Dropout", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "Log", "Mish", "Reciprocal", "Round", "Selu", "Shrink", "Sign", "Sin", "Sinh",
    "Softsign", "Swish", "Tan", "ThresholdedRelu", "Cast", "BitwiseNot", "Not", "IsNaN", "IsInf",
)  # fmt: skip
# Numbers that stand at the same place of two or more operands.
TOGETHER = (
    "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "Mean", "Mod", "Or", "PRelu", "Pow", "Sum", "SwiGLU", "Where", "Xor",
)  # fmt: skip
REDUCED = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMin", "ReduceProd", "ReduceSumSquare",
)  # fmt: skip
# Windows of one place in space.
POOLED = ("MaxPool", "AveragePool", "LpPool")


def _together(node: gs.Node, x: list[Floats]) -> Floats:
    return np.asarray(sum((1 + 0.37 * i) * value for i, value in enumerate(x)))


def _reduced(node: gs.Node, x: list[Floats]) -> Floats:
    axes = tuple(int(axis) for axis in node.attrs["axes"])
    return np.asarray(np.mean(x[0] ** 2, axis=axes, keepdims=bool(node.attrs.get("keepdims", 1))))


def _per_channel(node: gs.Node, x: list[Floats]) -> Floats:
    if any(vector.shape != (x[0].shape[1],) for vector in x[1:]):
        raise ValueError("as many values as channels")
    column = [-1] + [1] * (x[0].ndim - 2)
    return x[0] * x[1].reshape(column) + x[2].reshape(column)


def _transposed_conv(node: gs.Node, x: list[Floats]) -> Floats:
    """One by one, ungrouped: a product with [in, out]."""
    product = np.einsum("nchw,co->nohw", x[0], x[1][:, :, 0, 0])
    if len(x) > 2 and x[2].shape != (product.shape[1],):
        raise ValueError("as many offsets as channels")
    return np.asarray(product + (x[2].reshape(-1, 1, 1) if len(x) > 2 else 0.0))


def _normal(node: gs.Node, x: list[Floats]) -> Floats:
    return np.asarray(x[0] / (0.5 + x[0].sum(axis=int(node.attrs.get("axis", -1)), keepdims=True)))


def _einsum(node: gs.Node, x: list[Floats]) -> Floats:
    return np.asarray(np.einsum(str(node.attrs["equation"]), *x))


def _summed_over(node: gs.Node, x: list[Floats]) -> dict[int, list[int]]:
    """Return the axes that an equation of two operands sums over, all of which both have."""
    terms, result = str(node.attrs["equation"]).replace(" ", "").split("->")
    first, second = terms.split(",")
    gone = [letter for letter in first if letter not in result]
    return {0: [first.index(letter) for letter in gone], 1: [second.index(letter) for letter in gone]}


for _name in ALONE:
    TABLE.setdefault(_name, computed(lambda node, x: x[0], nothing))
for _name in TOGETHER:
    TABLE.setdefault(_name, computed(_together, nothing))
for _name in REDUCED:
    TABLE[_name] = computed(_reduced, lambda node, x: {0: [a % x[0].ndim for a in node.attrs["axes"]]})
for _name in POOLED:
    TABLE[_name] = computed(lambda node, x: x[0], nothing)
for _name in ("GlobalMaxPool", "GlobalLpPool"):
    TABLE[_name] = computed(lambda node, x: x[0].mean(axis=(2, 3), keepdims=True), nothing)
for _name in ("LogSoftmax", "Hardmax", "LpNormalization"):
    TABLE[_name] = computed(
        _normal, lambda node, x: {0: [int(node.attrs.get("axis", -1)) % x[0].ndim]}, stays=True
    )
TABLE["InstanceNormalization"] = computed(_per_channel, nothing)
TABLE["ConvTranspose"] = computed(_transposed_conv, lambda node, x: {0: [1], 1: [0]})
TABLE["Einsum"] = computed(_einsum, _summed_over)
