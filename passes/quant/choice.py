"""What was chosen to compute in integers, and how much of each layer is rounded."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import onnx_graphsurgeon as gs

from graphrewrite.passes.quant.kernels import MIXING

_MOVING = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


class Tier(NamedTuple):
    """How much of a layer is rounded: its weight to `bits` (0 for as many as all others), `wide` activations or narrow.

    `left` says why it is not rounded at all, where it is not.
    """

    bits: int = 0
    wide: bool = False
    left: str = ""


class Layer(NamedTuple):
    """A node with a constant weight: the axis of the weight that counts outputs, and the input that is a bias.

    One whose tier is wide computes in floats, with weights that are stored as codes and an input of 16 bits. A `light`
    one has so little to compute that it is only worth it where bytes come in and bytes go out.
    """

    node: gs.Node
    axis: int
    bias: int | None
    tier: Tier = Tier()
    light: bool = False


class Choice(NamedTuple):
    """What is to compute in integers.

    `layers`, `products` (of two activations) and `others` are nodes by id, `steady` those that a target computes in
    integers whatever stands around them, with their inputs that are numbers; `rounded` maps the name of each tensor
    that a node of them writes and that is rounded to the name of the tensor whose scale it takes, mostly itself. `left`
    says why layers stay in float.
    """

    layers: Mapping[int, Layer]
    products: Mapping[int, gs.Node]
    others: Mapping[int, gs.Node]
    rounded: Mapping[str, str]
    left: Mapping[str, str]
    steady: Mapping[int, tuple[int, ...]] = MappingProxyType({})

    def nodes(self) -> list[gs.Node]:
        """Return the layers and products."""
        return [*(layer.node for layer in self.layers.values()), *self.products.values()]

    def is_mixing(self, node: gs.Node) -> bool:
        """Tell whether all inputs of one of the `others` are numbers of one kind, constants among them too."""
        return node.op in MIXING


def name_of(node: gs.Node) -> str:
    """Return the name that a layer is called by: its own, or that of what it writes."""
    return str(node.name or node.outputs[0].name)


def is_dequantised(tensor: gs.Tensor) -> bool:
    """Tell whether a tensor comes out of a DequantizeLinear, turned or reshaped behind it at most."""
    maker = tensor.inputs[0] if tensor.inputs else None
    while maker is not None and maker.op in _MOVING and maker.inputs[0].inputs:
        maker = maker.inputs[0].inputs[0]
    return maker is not None and maker.op == "DequantizeLinear"
