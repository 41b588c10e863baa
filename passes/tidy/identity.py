"""Nodes that hand on what they got: dropped, and whatever read them reads their source."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.match import Draft, RuleSet, refuse, rule
from graphrewrite.match.rules import Result
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.passes.tidy.reading import (
    INT64_MAX,
    axes,
    integer,
    integers,
    pads,
    permutation,
    real,
    same_sizes,
    slices,
    source,
    text,
    uniform,
    used_outputs,
)
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes

_NAME = "node without effect"
_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd")


def hand_on(draft: Draft, node: gs.Node, x: gs.Tensor | None = None) -> Result:
    """Drop a node whose output is its input `x`."""
    x = node.inputs[0] if x is None else x
    if not draft.can_replace(node.outputs[0], x):
        refuse("it carries an output of the model straight from an input, a constant or another output")
    return draft.replace(node.outputs[0], x)


def keeps_shape(draft: Draft, node: gs.Node, x: gs.Tensor | None = None) -> bool:
    """Tell whether the output certainly has the sizes of the input."""
    return same_sizes(draft.shape(node.inputs[0] if x is None else x), draft.shape(node.outputs[0]))


@rule("Identity", name=_NAME)
def identity(draft: Draft, node: gs.Node) -> Result:
    """Drop `Identity`."""
    return hand_on(draft, node)


@rule("Dropout", name=_NAME)
def dropout(draft: Draft, node: gs.Node) -> Result:
    """Drop a dropout that is not in training mode and whose mask nobody reads."""
    if used_outputs(draft, node) != [0] or (draft.opset < 7 and not integer(node, "is_test", 0)):
        return False
    mode = source(node, 2)
    if mode is not None:
        training = draft.constant(mode)
        if training is None or training.reshape(-1)[0]:
            return False
    return hand_on(draft, node)


@rule("Cast", "CastLike", name=_NAME)
def cast(draft: Draft, node: gs.Node) -> Result:
    """Drop a cast to the type the tensor has."""
    before, after = draft.dtype(node.inputs[0]), draft.dtype(node.outputs[0])
    return before is not None and before == after and hand_on(draft, node)


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", name=_NAME)
def same_shape(draft: Draft, node: gs.Node) -> Result:
    """Drop what would change the shape and does not."""
    return keeps_shape(draft, node) and hand_on(draft, node)


@rule("Transpose", name=_NAME)
def transpose(draft: Draft, node: gs.Node) -> Result:
    """Drop a transposition that leaves every axis where it is."""
    perm = permutation(draft, node)
    return perm is not None and perm == sorted(perm) and hand_on(draft, node)


@rule("Concat", "Sum", "Max", "Min", "Mean", name=_NAME)
def single_input(draft: Draft, node: gs.Node) -> Result:
    """Drop a joining of one tensor with nothing."""
    return len(node.inputs) == 1 and hand_on(draft, node)


@rule("Concat", name="empty part of a Concat")
def empty_parts(draft: Draft, node: gs.Node) -> Result:
    """Take parts of length zero out of a concatenation."""
    axis = node.attrs.get("axis")
    kept = [tensor for tensor in node.inputs if not _is_empty(draft, tensor, axis)]
    if not kept or len(kept) == len(node.inputs):
        return False
    return draft.replace(node.outputs[0], draft.op("Concat", *kept, like=node.outputs[0], axis=axis))


def _is_empty(draft: Draft, tensor: gs.Tensor, axis: object) -> bool:
    shape = draft.shape(tensor)
    if shape is None or not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
        return False
    size = shape[axis]
    return isinstance(size, int) and size == 0


@rule("Split", name=_NAME)
def single_output(draft: Draft, node: gs.Node) -> Result:
    """Drop a split into one part."""
    return len(node.outputs) == 1 and keeps_shape(draft, node) and hand_on(draft, node)


@rule("Slice", name=_NAME)
def full_slice(draft: Draft, node: gs.Node) -> Result:
    """Drop a slice that takes everything, forwards."""
    parts = slices(draft, node)
    if parts is None or any(step < 1 for _, _, _, step in parts):
        return False
    everything = all(start == 0 and end >= INT64_MAX >> 1 and step == 1 for _, start, end, step in parts)
    return (everything or keeps_shape(draft, node)) and hand_on(draft, node)


@rule("Pad", name=_NAME)
def no_padding(draft: Draft, node: gs.Node) -> Result:
    """Drop a padding by nothing."""
    shape = draft.shape(node.inputs[0])
    found = integers(draft, node, "pads", 1) if shape is None else pads(draft, node, len(shape))
    return found is not None and not any(found) and hand_on(draft, node)


@rule("Tile", name=_NAME)
def one_tile(draft: Draft, node: gs.Node) -> Result:
    """Drop a tiling that repeats nothing."""
    if draft.opset < 6:
        return False
    repeats = draft.integers(node.inputs[1])
    return repeats is not None and all(count == 1 for count in repeats) and hand_on(draft, node)


@rule("Resize", "Upsample", name=_NAME)
def same_size(draft: Draft, node: gs.Node) -> Result:
    """Drop a resize by a factor of one."""
    if text(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return False
    if not keeps_shape(draft, node):
        return False
    if isinstance(node.attrs.get("scales"), list):
        factors = np.asarray(node.attrs["scales"])
    else:
        at = 1 if node.op == "Upsample" or draft.opset < 11 else 2
        tensor = source(node, at)
        values = None if tensor is None else draft.constant(tensor)
        if values is None or values.size == 0:
            # Sizes were asked for: equal sizes are a factor of one, unless the aspect ratio decides.
            asked = (
                source(node, 3) is not None and text(node, "keep_aspect_ratio_policy", "stretch") == "stretch"
            )
            return asked and hand_on(draft, node)
        factors = values
    return bool(np.all(factors == 1.0)) and hand_on(draft, node)


@rule("MaxPool", "AveragePool", name=_NAME)
def one_pixel_pool(draft: Draft, node: gs.Node) -> Result:
    """Drop a pooling over single pixels."""
    ones = all(
        all(size == 1 for size in node.attrs.get(name, []))
        for name in ("kernel_shape", "strides")
        if isinstance(node.attrs.get(name, []), list)
    )
    if not ones or any(node.attrs.get("pads", [])) or used_outputs(draft, node) != [0]:
        return False
    return hand_on(draft, node)


@rule(*_REDUCTIONS, name=_NAME)
def reduce_nothing(draft: Draft, node: gs.Node) -> Result:
    """Drop a reduction over axes of length one that keeps them."""
    shape = draft.shape(node.inputs[0])
    if shape is None or not integer(node, "keepdims", 1):
        return False
    chosen = axes(draft, node, len(shape))
    return (
        chosen is not None
        and all(isinstance(shape[a], int) and shape[a] == 1 for a in chosen)
        and hand_on(draft, node)
    )


@rule("GlobalAveragePool", "GlobalMaxPool", name=_NAME)
def pool_one_pixel(draft: Draft, node: gs.Node) -> Result:
    """Drop a global pooling of a single pixel."""
    return keeps_shape(draft, node) and hand_on(draft, node)


# Per operator: what the constant must be, and on which sides it may stand.
_UNITS: dict[str, tuple[float, tuple[int, ...]]] = {
    "Add": (0.0, (0, 1)),
    "Sub": (0.0, (1,)),
    "Mul": (1.0, (0, 1)),
    "Div": (1.0, (1,)),
    "Pow": (1.0, (1,)),
    "Or": (0.0, (0, 1)),
    "And": (1.0, (0, 1)),
    "Xor": (0.0, (0, 1)),
    "BitShift": (0.0, (1,)),
}


@rule(*_UNITS, name=_NAME)
def unit(draft: Draft, node: gs.Node) -> Result:
    """Drop a sum with zero, a product with one and their like, unless broadcasting changes the shape."""
    wanted, sides = _UNITS[node.op]
    for side in sides:
        constant, x = node.inputs[side], node.inputs[1 - side]
        if not draft.is_constant(constant) or not _adds_no_axis(draft, node, constant, x):
            continue
        values = draft.constant(constant)
        if values is not None and uniform(values) == wanted:
            return hand_on(draft, node, x)
    return False


def _adds_no_axis(draft: Draft, node: gs.Node, constant: gs.Tensor, x: gs.Tensor) -> bool:
    return draft.shape(constant) == () or keeps_shape(draft, node, x)


@rule("Where", name=_NAME)
def fixed_choice(draft: Draft, node: gs.Node) -> Result:
    """Drop a choice whose condition is the same everywhere and known."""
    if not draft.is_constant(node.inputs[0]):
        return False
    condition = draft.constant(node.inputs[0])
    state = None if condition is None else uniform(condition)
    if state is None:
        return False
    x = node.inputs[1 if state else 2]
    return keeps_shape(draft, node, x) and hand_on(draft, node, x)


@rule("Clip", name=_NAME)
def no_bounds(draft: Draft, node: gs.Node) -> Result:
    """Drop a clip without bounds, or with bounds no number exceeds."""
    dtype = draft.dtype(node.inputs[0])
    if draft.opset < 11:
        if dtype != np.float32:
            return False
        limit = float(np.finfo(np.float32).max)
        open_below = real(node, "min", -np.inf) < -limit or "min" not in node.attrs
        return (
            open_below
            and ("max" not in node.attrs or real(node, "max", np.inf) > limit)
            and hand_on(draft, node)
        )
    for index, infinite in ((1, -np.inf), (2, np.inf)):
        bound = source(node, index)
        if bound is None:
            continue
        values = draft.constant(bound)
        if (
            values is None
            or values.dtype.kind != "f"
            or values.size != 1
            or values.reshape(-1)[0] != infinite
        ):
            return False
    return hand_on(draft, node)


# Applied to their own result these change nothing.
_IDEMPOTENT = ("Relu", "Abs", "Floor", "Ceil", "Round", "Sign")
_INVOLUTIONS = ("Neg", "Not", "BitwiseNot")
# These give nothing below zero.
_NOT_NEGATIVE = frozenset(
    {
        "Relu",
        "Sigmoid",
        "Softmax",
        "Exp",
        "Abs",
        "Sqrt",
        "HardSigmoid",
        "Softplus",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
    }
)


@rule(*_IDEMPOTENT, name="repeated function")
def idempotent(draft: Draft, node: gs.Node) -> Result:
    """Drop the second of two equal functions of which once is enough, and a Relu of what is never negative."""
    maker = draft.producer(node.inputs[0])
    if maker is None:
        return False
    redundant = maker.op == node.op or (node.op in ("Relu", "Abs") and maker.op in _NOT_NEGATIVE)
    return redundant and not maker.domain and hand_on(draft, node)


@rule(*_INVOLUTIONS, name="repeated function", reach=2)
def involution(draft: Draft, node: gs.Node) -> Result:
    """Drop a pair of functions that undo each other."""
    maker = draft.producer(node.inputs[0])
    if maker is None or maker.op != node.op or maker.domain:
        return False
    return hand_on(draft, node, maker.inputs[0])


RULES = RuleSet.of(
    identity,
    dropout,
    cast,
    same_shape,
    transpose,
    single_input,
    empty_parts,
    single_output,
    full_slice,
    no_padding,
    one_tile,
    same_size,
    one_pixel_pool,
    reduce_nothing,
    pool_one_pixel,
    unit,
    fixed_choice,
    no_bounds,
    idempotent,
    involution,
)


@passes.register("drop_no_ops")
@dataclass(frozen=True)
class DropNoOps:
    """Drop nodes that hand on what they got."""

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        """Drop them."""
        return tidy(model, lambda: RULES)
