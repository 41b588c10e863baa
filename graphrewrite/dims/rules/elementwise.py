"""Operators that treat every position alike: unary functions, and functions of broadcast operands."""

from graphrewrite.dims.axes import ONE, Axis
from graphrewrite.dims.cells import may_differ, share_groups
from graphrewrite.dims.sweep import Step, rule

UNARY = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "BitCast",
]
BROADCAST = [
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "SwiGLU",
    "Where",
    "Xor",
]


@rule(*UNARY)
def unary(s: Step) -> None:
    """Positions stay where they are, in the items of a list too."""
    items = s.analysis.sequences.get(s.node.inputs[0].name)
    if items is not None:
        s.ignore(0)
        s.analysis.sequences[s.node.outputs[0].name] = items
        return
    s.out(s.axes(0))


@rule("CastLike")
def cast_like(s: Step) -> None:
    """Only the type of the second input matters."""
    s.ignore(1)
    s.out(s.axes(0))


@rule("Dropout")
def dropout(s: Step) -> None:
    """The mask has the axes of the data."""
    axes = s.axes(0)
    s.out(axes)
    if len(s.node.outputs) > 1:
        s.out(axes, 1)


@rule(*BROADCAST)
def broadcast(s: Step) -> None:
    """Right-aligned operands; on each axis all operands longer than one are one axis."""
    slots = range(len(s.node.inputs))
    # Where a layer's result meets a table that others read too, this reader has labels of its own.
    read = s.own if any(s.is_made_by_a_layer(slot) for slot in slots) else s.axes
    s.out(broadcast_axes(s, [read(slot) for slot in slots]))


def broadcast_axes(s: Step, operands: list[list[Axis]]) -> list[Axis]:
    """Tie right-aligned operands and return the axes of the result."""
    rank = max(len(axes) for axes in operands)
    result = []
    for position in range(-rank, 0):
        present = [
            axes[position] for axes in operands if len(axes) >= -position and axes[position].sizes != (1, 1)
        ]
        if not present:
            result.append(ONE)
            continue
        # A labelled operand leads, so that the result keeps its digits and rows.
        lead = next((axis for axis in present if not axis.is_rigid), present[0])
        if may_differ(s):
            lead = next((axis for axis in present if axis.digits), lead)
        for axis in present:
            if not (may_differ(s) and share_groups(s, lead, axis)):
                s.tie(lead, axis)
        # What met an axis that stays is pinned; as digits of a split block it would count as one that may differ.
        alike = (axis for axis in present if axis.is_rigid and axis.sizes == lead.sizes and may_differ(s))
        result.append(next(alike, lead))
    return result
