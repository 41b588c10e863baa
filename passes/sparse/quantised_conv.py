"""Convolutions of bytes, read from QLinearConv or from a Conv between DequantizeLinear and QuantizeLinear."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array
from graphrewrite.match import Draft, is_default_domain
from graphrewrite.passes.sparse.activations import activation_of
from graphrewrite.passes.tidy.reading import integer, integers, source, text

Int8s = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]

_RELU, _CLIP = 1, 2  # numbers of activations


@dataclass(frozen=True)
class Scale:
    """The steps of a tensor of bytes: value = (byte - zero) * step. Both are scalars; `zero` has the bytes' type."""

    step: np.float32
    zero: Array


@dataclass(frozen=True)
class QuantisedConv:
    """A convolution of bytes with int8 weights.

    `weight` is [outputs, inputs, rows, columns], `steps` [outputs] are those of the weights, `bias` [outputs] is in
    units of x's step times theirs. `y` is the tensor of bytes that comes out.
    """

    node: gs.Node
    x: gs.Tensor
    y: gs.Tensor
    weight: Int8s
    weight_name: gs.Tensor
    steps: Floats
    bias: npt.NDArray[np.int32]
    x_scale: Scale
    y_scale: Scale
    strides: list[int]
    pads: list[int]
    dilations: list[int]


def read_quantised_conv(draft: Draft, node: gs.Node) -> "QuantisedConv | str | None":
    """Read a node as such a layer; a text says what keeps one that looks like it, None is anything else."""
    if not is_default_domain(node):
        return None
    if node.op == "QLinearConv":
        return _from_one_node(draft, node)
    if node.op == "Conv" and _is(draft.producer(node.inputs[0]), "DequantizeLinear"):
        return _from_three(draft, node)
    return None


def _from_one_node(draft: Draft, node: gs.Node) -> QuantisedConv | str:
    x_scale = scale_of(draft, node.inputs[1], node.inputs[2])
    y_scale = scale_of(draft, node.inputs[6], node.inputs[7])
    weight = _weight(draft, node.inputs[3], node.inputs[4], node.inputs[5])
    if isinstance(weight, str):
        return weight
    if x_scale is None or y_scale is None:
        return "a scale or zero point of its input or output is not one constant number"
    bias = source(node, 8)
    added = np.zeros(len(weight[0]), np.int32) if bias is None else draft.constant(bias)
    if added is None or added.dtype != np.int32:
        return "its bias is not constant"
    return _checked(
        draft, node, node.inputs[0], node.outputs[0], node.inputs[3], weight, added, x_scale, y_scale
    )


def _from_three(draft: Draft, node: gs.Node) -> QuantisedConv | str:
    before, weights = draft.producer(node.inputs[0]), draft.producer(node.inputs[1])
    if before is None or weights is None or not _is(weights, "DequantizeLinear"):
        return "its weights are not dequantised from int8"
    if any(integer(each, "block_size", 0) for each in (before, weights)):
        return "its scales are per block"
    weight = _weight(draft, weights.inputs[0], weights.inputs[1], source(weights, 2))
    if isinstance(weight, str):
        return weight
    if weights.inputs[1].shape and integer(weights, "axis", 1) != 0 and len(weight[1]) > 1:
        return "its weights have scales along another axis than the outputs"
    x_scale = scale_of(draft, before.inputs[1], source(before, 2))
    active = activation_of(draft, node.outputs[0])
    after = draft.sole_user(active.output)
    if after is None or not _is(after, "QuantizeLinear") or after.inputs[0] is not active.output:
        return "its output is not quantised, or is read elsewhere too"
    y_scale = scale_of(draft, after.inputs[1], source(after, 2))
    if x_scale is None or y_scale is None:
        return "a scale or zero point of its input or output is not one constant number"
    lowest, highest = _range(y_scale)
    if active.number > _CLIP:
        return "its activation is not a range of the output's bytes"
    if active.number == _RELU and lowest != 0 or active.number == _CLIP and active.low > lowest:
        return f"its output's bytes reach down to {lowest:g}, further than its activation"
    if active.number == _CLIP and active.high < highest - 0.5 * float(y_scale.step):
        return f"its output's bytes reach up to {highest:g}, further than its activation"
    added = _bias(draft, node, x_scale.step * weight[1])
    if added is None:
        return "its bias is not constant, or does not fit into 32 bits"
    return _checked(
        draft, node, before.inputs[0], after.outputs[0], weights.inputs[0], weight, added, x_scale, y_scale
    )


def _checked(
    draft: Draft,
    node: gs.Node,
    x: gs.Tensor,
    y: gs.Tensor,
    name: gs.Tensor,
    weight: tuple[Int8s, Floats],
    bias: Array,
    x_scale: Scale,
    y_scale: Scale,
) -> QuantisedConv | str:
    values, steps = weight
    if values.ndim != 4 or integer(node, "group", 1) != 1:
        return "only convolutions in two dimensions without groups have a kernel"
    if text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return f"its padding is {text(node, 'auto_pad', '')}; tidy the model first, which writes it out"
    if x_scale.zero.dtype != np.uint8 or y_scale.zero.dtype != np.uint8:
        return f"its bytes are {x_scale.zero.dtype} and {y_scale.zero.dtype}; the kernel takes uint8"
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scales = x_scale.step * steps / y_scale.step
    if not (x_scale.step > 0 and y_scale.step > 0 and np.isfinite(scales).all()):
        return "a scale is zero, negative or not finite"
    obstacle = too_large(values, bias)
    if not obstacle and (largest_sums(values, bias) * np.abs(scales.astype(np.float64))).max() >= 1 << 30:
        obstacle = "its sums could be so many steps of its output that they leave 32 bits"
    if obstacle:
        return obstacle
    return QuantisedConv(
        node,
        x,
        y,
        values,
        name,
        steps,
        bias.astype(np.int32),
        x_scale,
        y_scale,
        integers(draft, node, "strides", 99) or [1, 1],
        integers(draft, node, "pads", 99) or [0, 0, 0, 0],
        integers(draft, node, "dilations", 99) or [1, 1],
    )


def too_large(weight: Int8s, bias: Array) -> str:
    """Return what a kernel would refuse about these weights, nothing where it takes them."""
    if not weight.size:
        return "its weight is empty"
    if weight.shape[1] > 1 << 18 or int(np.prod(weight.shape[2:])) > 1 << 16:
        return "it has more inputs or kernel positions than a kernel counts"
    return "its sums could need more than 32 bits" if largest_sums(weight, bias).max() >= 1 << 31 else ""


def largest_sums(weight: Int8s, bias: Array) -> npt.NDArray[np.int64]:
    """Return what the sum of each output cannot exceed, on the way to its end included."""
    sizes = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)
    return np.asarray(np.abs(bias.astype(np.int64)) + 510 * sizes)


def scale_of(draft: Draft, step: gs.Tensor, zero: gs.Tensor | None) -> Scale | None:
    """Return constant steps of a whole tensor; a zero point that is left out is 0 of uint8."""
    steps = draft.constant(step)
    zeros = np.zeros((), np.uint8) if zero is None else draft.constant(zero)
    if steps is None or zeros is None or steps.size != 1 or zeros.size != 1 or steps.dtype != np.float32:
        return None
    return Scale(np.float32(steps.reshape(())), zeros.reshape(()))


def int8_weight(
    draft: Draft, weight: gs.Tensor, step: gs.Tensor, zero: gs.Tensor | None
) -> tuple[Int8s, Array] | str:
    """Return constant int8 numbers without a zero point and their steps, or what is in the way."""
    values, steps = draft.constant(weight), draft.constant(step)
    zeros = None if zero is None else draft.constant(zero)
    if values is None or values.dtype != np.int8:
        return "its weights are not constant int8"
    if steps is None or steps.dtype != np.float32 or not np.isfinite(steps).all():
        return "the scales of its weights are not constant float32"
    if zero is not None and (zeros is None or np.any(zeros)):
        return "its weights have a zero point"
    return values.astype(np.int8, copy=False), steps


def _weight(
    draft: Draft, weight: gs.Tensor, step: gs.Tensor, zero: gs.Tensor | None
) -> tuple[Int8s, Floats] | str:
    """Return int8 weights whose first axis is the outputs, and a step for each of these."""
    found = int8_weight(draft, weight, step, zero)
    if isinstance(found, str):
        return found
    values, steps = found
    if steps.size not in (1, len(values)):
        return "its weights have scales along another axis than the outputs"
    return values, np.broadcast_to(steps.reshape(-1), len(values)).astype(np.float32)


def _bias(draft: Draft, node: gs.Node, unit: Floats) -> Array | None:
    """Return the bias in `unit`s [outputs]: integers as they are where they are in these, else the nearest ones."""
    bias = source(node, 2)
    if bias is None:
        return np.zeros(len(unit), np.int32)
    floats = draft.constant(bias)
    maker = draft.producer(bias)
    if floats is None and maker is not None and _is(maker, "DequantizeLinear"):
        ints, steps = draft.constant(maker.inputs[0]), draft.constant(maker.inputs[1])
        zero = source(maker, 2)
        zeros = None if zero is None else draft.constant(zero)
        if (
            ints is None
            or ints.dtype != np.int32
            or steps is None
            or (zero is not None and (zeros is None or zeros.any()))
        ):
            return None
        if np.allclose(steps, unit, rtol=1e-5, atol=0):
            return ints
        floats = ints.astype(np.float64) * steps.astype(np.float64)
    if floats is None or floats.shape != unit.shape:
        return None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        nearest = np.rint(floats.astype(np.float64) / unit)
    return nearest.astype(np.int32) if (np.abs(nearest) < 1 << 31).all() else None


def _range(scale: Scale) -> tuple[float, float]:
    lowest = 0 if scale.zero.dtype == np.uint8 else -128
    zero, step = int(scale.zero), float(scale.step)
    return (lowest - zero) * step, (lowest + 255 - zero) * step


def _is(node: gs.Node | None, op: str) -> bool:
    return node is not None and node.op == op and is_default_domain(node)
