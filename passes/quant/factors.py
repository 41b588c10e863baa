"""Where factors of channels can go: what makes a tensor is divided by them, what reads it is multiplied."""

from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.match import Draft, is_default_domain
from graphrewrite.passes.quant.grid import Floats
from graphrewrite.passes.quant.plan import name_of
from graphrewrite.passes.tidy.linear import (
    Linear,
    bias_vector,
    input_channels,
    is_inference_batchnorm,
    read_affine,
    read_linear,
    scaled,
    scaled_inputs,
)
from graphrewrite.passes.tidy.reading import integer, source

# What a positive factor passes through, channel by channel; the clip of a Relu6 is no such thing.
PASSED = frozenset({"AveragePool", "GlobalAveragePool", "Identity", "LeakyRelu", "MaxPool", "Relu"})
# Norms whose gain and offset, inputs 1 and 2, count channels: where these lie, from the end, or None for axis 1.
_NORMS = {
    "BatchNormalization": None,
    "InstanceNormalization": None,
    "LayerNormalization": -1,
    "RMSNormalization": -1,
}
_HOW = "divided for other readers"


class Taker(Protocol):
    """A node whose constants take factors in."""

    def divide(self, draft: Draft, factors: Floats) -> None:
        """Give the node constants with which its channels come out divided."""
        ...


Found: TypeAlias = tuple[Taker, ...]


class _Weights(NamedTuple):
    linear: Linear

    def divide(self, draft: Draft, factors: Floats) -> None:
        linear = self.linear
        bias = None if linear.bias is None else bias_vector(draft, linear) / factors
        _put(draft, linear.node, 1, scaled(draft, linear, 1 / factors))
        draft.set_attribute(linear.node, "alpha", None)
        if linear.bias is not None and bias is not None:
            slot = next(slot for slot, each in enumerate(linear.last.inputs) if each is linear.bias)
            _put(draft, linear.last, slot, bias)
            draft.set_attribute(linear.node, "beta", None)


class _Norm(NamedTuple):
    node: gs.Node

    def divide(self, draft: Draft, factors: Floats) -> None:
        for slot in (1, 2):
            given = source(self.node, slot)
            values = None if given is None else draft.constant(given)
            if values is not None:
                _put(draft, self.node, slot, values.astype(np.float64) / factors)


class _Map(NamedTuple):
    """A product with or a sum of a constant for each channel; `axis` is theirs, from the end."""

    node: gs.Node
    slot: int
    values: Floats
    axis: int

    def divide(self, draft: Draft, factors: Floats) -> None:
        new = self.values * factors if self.node.op == "Div" else self.values / factors
        _put(draft, self.node, self.slot, new.reshape(-1, *[1] * (-self.axis - 1)))


def _put(draft: Draft, node: gs.Node, slot: int, values: Floats) -> None:
    old = node.inputs[slot]
    draft.set_input(node, slot, draft.add_constant(values.astype(draft.dtype(old)), old.name, (old, _HOW)))


class Reader(NamedTuple):
    """A layer that reads a tensor with channels on an axis, counted from the end."""

    linear: Linear
    axis: int
    channels: int

    def multiply(self, draft: Draft, factors: Floats) -> None:
        """Give the layer a weight that makes up for inputs divided by factors."""
        _put(draft, self.linear.node, 1, scaled_inputs(draft, self.linear, factors))

    def by_input(self, draft: Draft) -> Floats:
        """Return the weight as [groups, outputs of a group, positions, inputs of a group]."""
        weight = draft.constant(self.linear.weight)
        assert weight is not None
        wide = weight.astype(np.float64)
        node = self.linear.node
        if node.op in ("Gemm", "MatMul"):
            flat = wide if node.op == "Gemm" and integer(node, "transB", 0) else wide.T
            return flat[None, :, None, :]
        groups = integer(node, "group", 1)
        if node.op == "ConvTranspose":  # [inputs, outputs of a group, ...]
            split = wide.reshape(groups, -1, wide.shape[1], wide[0, 0].size)
            return np.moveaxis(split, 1, 3)
        split = wide.reshape(groups, -1, wide.shape[1], wide[0, 0].size)
        return np.moveaxis(split, 2, 3)


def reader_of(draft: Draft, node: gs.Node, tensor: gs.Tensor) -> Reader | None:
    """Return a node as a layer that reads a tensor where inputs of layers go; None for what is none."""
    if not draft.is_alive(node) or node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    linear = read_linear(draft, node)
    if (
        linear is None
        or node.inputs[0] is not tensor
        or any(each is tensor for each in list(node.inputs)[1:])
    ):
        return None
    if draft.dtype(linear.weight) != np.float32 or node.op == "Gemm" and integer(node, "transA", 0):
        return None
    rank = len(draft.shape(linear.weight) or ())
    axis = -1 if node.op in ("Gemm", "MatMul") else 1 - rank
    return Reader(linear, axis, input_channels(draft, linear))


def takers(draft: Draft, tensor: gs.Tensor, axis: int, channels: int) -> Found | str:
    """Return what can divide a tensor by a factor for each channel, or why nothing can.

    All who read the tensor will find it divided; `axis`, from the end, holds the channels.
    """
    node = draft.producer(tensor)
    if node is None:
        return f"{tensor.name!r} is an input of the model"
    if not is_default_domain(node):
        return f"{node.domain}.{node.op} stands before it"
    linear = read_linear(draft, node)
    if linear is not None and (linear.axis, linear.channels) == (axis, channels):
        if draft.dtype(linear.weight) != np.float32:
            return f"the weight of {name_of(linear.node)} is not float32"
        return (_Weights(linear),)
    if node.op in PASSED:
        return _through(draft, node, (0,), axis, channels)
    if node.op in _NORMS:
        return _norm(draft, node, axis, channels)
    if node.op in ("Add", "Div", "Mul", "Sub"):
        return _arithmetic(draft, node, axis, channels)
    return f"{node.op} stands before it, which no factor passes"


def _norm(draft: Draft, node: gs.Node, axis: int, channels: int) -> Found | str:
    rank, own = draft.rank(node.inputs[0]), _NORMS[node.op]
    fits = rank is not None and axis == (1 - rank if own is None else own)
    if own is not None and rank is not None:
        fits = fits and integer(node, "axis", -1) % rank == rank - 1
    gains = [each for slot in (1, 2) if (each := source(node, slot)) is not None]
    if not fits or not all(
        draft.is_constant(each) and draft.shape(each) == (channels,) and draft.dtype(each) == np.float32
        for each in gains
    ):
        return f"{node.op} before it has no constant gain for each of its channels"
    if node.op == "BatchNormalization" and not is_inference_batchnorm(draft, node):
        return "a norm before it measures its batch"
    return (_Norm(node),)


def _arithmetic(draft: Draft, node: gs.Node, axis: int, channels: int) -> Found | str:
    for side in (0, 1):
        affine = read_affine(draft, node, side, axis, channels)
        if affine is None or draft.dtype(node.inputs[1 - side]) != np.float32:
            continue
        if node.op in ("Mul", "Div"):
            values = 1 / affine.scale if node.op == "Div" else affine.scale
            return (_Map(node, 1 - side, values, axis),)
        above = _through(draft, node, (side,), axis, channels)
        values = -affine.shift if node.op == "Sub" and side == 0 else affine.shift
        return above if isinstance(above, str) else (*above, _Map(node, 1 - side, values, axis))
    if node.inputs[0] is node.inputs[1]:
        return f"{node.op} of a tensor with itself stands before it"
    if node.op in ("Add", "Sub"):
        return _through(draft, node, (0, 1), axis, channels)
    one = _through(draft, node, (0,), axis, channels)
    if node.op == "Div" or not isinstance(one, str):
        return one
    return _through(draft, node, (1,), axis, channels)


def _through(draft: Draft, node: gs.Node, slots: tuple[int, ...], axis: int, channels: int) -> Found | str:
    found: Found = ()
    for slot in slots:
        tensor = node.inputs[slot]
        if not draft.feeds_only(tensor, node):
            return f"{tensor.name!r} before it has other readers"
        shape = draft.shape(tensor)
        if shape is None or len(shape) < -axis or shape[axis] != channels:
            return f"{tensor.name!r} before it does not have its {channels} channels"
        above = takers(draft, tensor, axis, channels)
        if isinstance(above, str):
            return above
        found += above
    return found
