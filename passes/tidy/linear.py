"""Convolutions, Gemm and MatMul with constant weights as one thing: y = W x + b, output channels on an axis."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array
from graphrewrite.match import Draft, is_default_domain
from graphrewrite.passes.tidy.reading import integer, real, source, text

Vector = npt.NDArray[np.float64]

_FLOATS = (np.float16, np.float32, np.float64)


@dataclass(frozen=True)
class Affine:
    """`x * scale + shift` per channel; both vectors have one element per channel, in float64."""

    scale: Vector
    shift: Vector

    @property
    def is_pure_scale(self) -> bool:
        """Tell whether nothing is added."""
        return not np.any(self.shift)


@dataclass(frozen=True)
class Linear:
    """One linear node, with the sum of a bias behind a MatMul where there is one.

    Attributes:
        node: the Conv, ConvTranspose, Gemm or MatMul.
        last: the node whose output is y: `node`, or the Add behind a MatMul.
        weight: its constant weight.
        bias: its constant bias vector, None where there is none.
        axis: the axis of y that holds the channels, counted from the end.
        channels: how many there are.
    """

    node: gs.Node
    last: gs.Node
    weight: gs.Tensor
    bias: gs.Tensor | None
    axis: int
    channels: int

    @property
    def output(self) -> gs.Tensor:
        """Return y."""
        out: gs.Tensor = self.last.outputs[0]
        return out

    def takes_shift(self) -> bool:
        """Tell whether a constant per output channel can be added without a new node."""
        return self.node.op != "MatMul" or self.last is not self.node


def read_linear(draft: Draft, node: gs.Node | None) -> Linear | None:
    """Read a node as linear; an Add counts where it adds a constant vector to a MatMul nobody else reads."""
    if node is None or not is_default_domain(node):
        return None
    if node.op == "Add":
        return _matmul_with_bias(draft, node)
    if node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    weight = node.inputs[1]
    if not draft.is_constant(weight) or draft.dtype(weight) not in _FLOATS:
        return None
    shape = draft.shape(weight)
    assert shape is not None
    sizes = [int(size) for size in shape]  # type: ignore[arg-type]
    if node.op == "MatMul":
        return Linear(node, node, weight, None, -1, sizes[1]) if len(sizes) == 2 else None
    bias = source(node, 2)
    if bias is not None and not draft.is_constant(bias):
        return None
    if node.op == "Gemm":
        channels = sizes[0] if integer(node, "transB", 0) else sizes[1]
        if bias is not None and draft.shape(bias) not in ((), (1,), (channels,), (1, channels), (1, 1)):
            return None
        return Linear(node, node, weight, bias, -1, channels)
    if len(sizes) < 3:
        return None
    channels = sizes[0] if node.op == "Conv" else sizes[1] * integer(node, "group", 1)
    return Linear(node, node, weight, bias, 1 - len(sizes), channels)


def _matmul_with_bias(draft: Draft, node: gs.Node) -> Linear | None:
    for side in (0, 1):
        bias, maker = node.inputs[1 - side], draft.producer(node.inputs[side])
        if maker is None or maker.op != "MatMul" or not draft.is_constant(bias):
            continue
        inner = read_linear(draft, maker)
        if inner is None:
            continue
        if draft.shape(bias) != (inner.channels,) or not draft.feeds_only(inner.output, node):
            continue
        return Linear(inner.node, node, inner.weight, bias, -1, inner.channels)
    return None


def scaled(draft: Draft, linear: Linear, scale: Vector) -> Vector:
    """Return the weight with every output channel multiplied, alpha of a Gemm included. `scale` is [channels]."""
    weight = _numbers(draft, linear.weight)
    node = linear.node
    rest = (1,) * (weight.ndim - 2)
    if node.op == "Conv":
        return weight * scale.reshape(-1, 1, *rest)
    if node.op == "ConvTranspose":
        return _by_group(weight, integer(node, "group", 1), scale)
    if node.op == "Gemm":
        alpha = real(node, "alpha", 1.0)
        return weight * (alpha * (scale[:, None] if integer(node, "transB", 0) else scale))
    return weight * scale


def scaled_inputs(draft: Draft, linear: Linear, scale: Vector) -> Vector:
    """Return the weight with every input channel multiplied, alpha of a Gemm left where it is. `scale` is [inputs]."""
    weight = _numbers(draft, linear.weight)
    node = linear.node
    rest = (1,) * (weight.ndim - 2)
    if node.op == "Conv":
        return _by_group(weight, integer(node, "group", 1), scale)
    if node.op == "ConvTranspose":
        return weight * scale.reshape(-1, 1, *rest)
    if node.op == "Gemm" and integer(node, "transB", 0):
        return weight * scale
    return weight * scale[:, None]


def input_channels(draft: Draft, linear: Linear) -> int:
    """Return how many input channels the weight reads."""
    sizes = [int(size) for size in draft.shape(linear.weight) or ()]  # type: ignore[arg-type]
    if linear.node.op == "Conv":
        return sizes[1] * integer(linear.node, "group", 1)
    if linear.node.op == "Gemm":
        return sizes[1] if integer(linear.node, "transB", 0) else sizes[0]
    return sizes[0]


def answer_to(draft: Draft, linear: Linear, shift: Vector) -> Vector:
    """Return what a constant `shift` per input channel adds to every output channel (no padding). [channels]."""
    weight = _numbers(draft, linear.weight)
    node = linear.node
    if node.op == "Conv":
        group = integer(node, "group", 1)
        summed = weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1).sum(axis=3)
        answers: Vector = np.einsum("goi,gi->go", summed, shift.reshape(group, -1))
        return answers.reshape(-1)
    if node.op == "Gemm":
        alpha = real(node, "alpha", 1.0)
        return alpha * (weight @ shift if integer(node, "transB", 0) else shift @ weight)
    return shift @ weight


def is_padded(node: gs.Node) -> bool:
    """Tell whether a convolution may read beyond the edge of its input."""
    if text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return True
    found = node.attrs.get("pads", [])
    return not isinstance(found, list) or any(found)


def bias_vector(draft: Draft, linear: Linear) -> Vector:
    """Return the bias as it is added, beta of a Gemm included; zeros where there is none. [channels]."""
    if linear.bias is None:
        return np.zeros(linear.channels)
    beta = real(linear.node, "beta", 1.0) if linear.node.op == "Gemm" else 1.0
    return np.broadcast_to(beta * _numbers(draft, linear.bias).reshape(-1), (linear.channels,))


def rebuild(
    draft: Draft, linear: Linear, x: gs.Tensor, weight: Array, bias: Vector | None, like: gs.Tensor, how: str
) -> gs.Tensor:
    """Make the linear node anew with other numbers, reading `x`; a bias of None keeps none.

    The attributes alpha and beta of a Gemm must be in `weight` and `bias` already.
    """
    dtype = draft.dtype(linear.weight)
    stem = linear.weight.name
    new_weight = draft.add_constant(weight.astype(dtype), stem, (linear.weight, how))
    new_bias = None
    if bias is not None:
        old = linear.bias
        origin = None if old is None else (old, how)
        new_bias = draft.add_constant(bias.astype(dtype), f"{stem}_bias" if old is None else old.name, origin)
    node = linear.node
    if node.op == "MatMul":
        product = draft.op("MatMul", x, new_weight, like=like)
        return product if new_bias is None else draft.op("Add", product, new_bias, like=like)
    attrs = {name: value for name, value in node.attrs.items() if name not in ("alpha", "beta")}
    if node.op == "Gemm" and new_bias is None and draft.opset < 11:
        new_bias = draft.add_constant(np.zeros(linear.channels, dtype=dtype), f"{stem}_bias")
    return draft.op(node.op, x, new_weight, new_bias, like=like, attrs=attrs)


def read_affine(draft: Draft, node: gs.Node, side: int, axis: int, channels: int) -> Affine | None:
    """Read a node as a map per channel of its input number `side`; `axis` (from the end) holds the channels.

    None where its numbers are not constant, vary along another axis, or make the result larger than the input.
    """
    if node.op == "BatchNormalization":
        return _batchnorm(draft, node, side, axis, channels)
    if node.op not in ("Mul", "Div", "Add", "Sub") or not is_default_domain(node):
        return None
    constant = node.inputs[1 - side]
    if not draft.is_constant(constant) or draft.dtype(constant) not in _FLOATS:
        return None
    values = _per_channel(draft, constant, node.inputs[side], axis, channels)
    if values is None or (node.op == "Div" and side == 1):
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    if node.op == "Mul":
        return Affine(values, zeros)
    if node.op == "Div":
        return None if not np.all(values) else Affine(1.0 / values, zeros)
    if node.op == "Add":
        return Affine(ones, values)
    return Affine(ones, -values) if side == 0 else Affine(-ones, values)


def _batchnorm(draft: Draft, node: gs.Node, side: int, axis: int, channels: int) -> Affine | None:
    if side != 0 or not is_inference_batchnorm(draft, node):
        return None
    rank = draft.rank(node.inputs[0])
    # Channels of a batch norm are on axis 1, whatever the rank; a vector alone counts as one channel.
    if rank is None and axis == -1:
        return None
    if (rank is not None and (rank < 2 or axis % rank != 1)) or draft.shape(node.inputs[1]) != (channels,):
        return None
    gain, offset, mean, variance = (_numbers(draft, tensor) for tensor in list(node.inputs)[1:5])
    scale = gain / np.sqrt(variance + real(node, "epsilon", 1e-5))
    return Affine(scale, offset - mean * scale)


def is_inference_batchnorm(draft: Draft, node: gs.Node) -> bool:
    """Tell whether a batch norm only applies constant statistics."""
    if integer(node, "training_mode", 0) or not integer(node, "spatial", 1):
        return False
    if draft.opset < 7 and not integer(node, "is_test", 0):
        return False
    if any(draft.use_count(out) for out in list(node.outputs)[1:] if not out.is_empty()):
        return False
    return all(draft.is_constant(tensor) for tensor in list(node.inputs)[1:5])


def _per_channel(draft: Draft, constant: gs.Tensor, x: gs.Tensor, axis: int, channels: int) -> Vector | None:
    sizes = [int(size) for size in draft.shape(constant) or ()]  # type: ignore[arg-type]
    rank = draft.rank(x)
    if (rank is None and len(sizes) > -axis) or (rank is not None and len(sizes) > rank):
        return None
    place = len(sizes) + axis
    if any(size != 1 and (at != place or size != channels) for at, size in enumerate(sizes)):
        return None
    return np.broadcast_to(_numbers(draft, constant).reshape(-1), (channels,))


def _by_group(weight: Vector, group: int, scale: Vector) -> Vector:
    """Multiply axis 1 of a grouped weight [a, b/group, ...] by a vector over all groups."""
    split = weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
    factors = scale.reshape(group, 1, weight.shape[1], *(1,) * (weight.ndim - 2))
    product: Vector = split * factors
    return product.reshape(weight.shape)


def _numbers(draft: Draft, tensor: gs.Tensor) -> Vector:
    values = draft.constant(tensor)
    assert values is not None
    return values.astype(np.float64)
