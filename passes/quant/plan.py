"""What InsertQdq decides before it writes anything: which nodes compute in integers, and which tensors are rounded.

A layer (Conv, Gemm, MatMul with a constant weight) has an integer kernel whatever stands around it. Nodes between
layers are only worth it where bytes come in: they are taken in when everything they read is rounded already, and
something that reads them computes in integers or they save conversions, which is found by striking out from all of
them. So a residual stream of float products stays float, and one between convolutions does not.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.cost.speeds import Speeds
from graphrewrite.match.view import View, is_default_domain
from graphrewrite.passes.patterns import why_left
from graphrewrite.passes.quant.kernels import (
    ALREADY,
    CARRYING,
    INNER,
    LIGHT,
    MIXING,
    PRODUCT,
    SHRINKING,
    TRANSPOSED,
)
from graphrewrite.passes.quant.worth import Region, slower_in_integers
from graphrewrite.passes.tidy.reading import integer, real, source, text

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
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

    `layers`, `products` (of two activations) and `others` are nodes by id; `rounded` maps the name of each tensor that
    a node of them writes and that is rounded to the name of the tensor whose scale it takes, mostly itself. `left`
    says why layers stay in float.
    """

    layers: Mapping[int, Layer]
    products: Mapping[int, gs.Node]
    others: Mapping[int, gs.Node]
    rounded: Mapping[str, str]
    left: Mapping[str, str]

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


class Chooser:
    """Works a `Choice` out.

    `holds_bounds` says that the activations' grid ends at zero where the values do, `constants` that those beside
    activations can be rounded too, `tier` how much of a layer is rounded by its name, `attention` that products of two
    activations are layers as well, `whole` that layers are taken in even where that saves no time. With `times`, what
    is slower in integers by them is left in floats.
    """

    def __init__(
        self,
        view: View,
        only: tuple[str, ...],
        skip: tuple[str, ...],
        holds_bounds: bool,
        constants: bool = True,
        tier: Callable[[str], Tier] = lambda name: Tier(),
        attention: bool = False,
        whole: bool = False,
        times: Speeds | None = None,
    ) -> None:
        self._view = view
        self._only, self._skip, self._tier = only, skip, tier
        self._holds_bounds = holds_bounds
        self._constants = constants
        self._attention, self._whole, self._times = attention, whole, times
        self._layers: dict[int, Layer] = {}
        self._products: dict[int, gs.Node] = {}
        self._others: dict[int, gs.Node] = {}
        self._left: dict[str, str] = {}
        self._given: set[str] = set()

    def choose(self) -> Choice:
        """Return what computes in integers."""
        for node in self._view.nodes():
            if not is_default_domain(node):
                continue
            if node.op in _LAYERS:
                self._take(node)
            elif (node.op in MIXING or node.op in CARRYING) and self._is_possible(node):
                self._others[id(node)] = node
        for inner in _inner(self._view.nodes()):
            self._left[name_of(inner)] = INNER
        self._strike()
        if self._times is not None and not self._whole:
            self._leave(self._times)
        return Choice(self._layers, self._products, self._others, self._rounded(), self._left)

    def _take(self, node: gs.Node) -> None:
        found = self._layer(node)
        if isinstance(found, Layer):
            tier = self._tier(name_of(node))
            if tier.left:
                self._left[name_of(node)] = tier.left
            else:
                self._layers[id(node)] = found._replace(tier=tier)
        elif found is PRODUCT and self._attention and self._is_product(node):
            self._products[id(node)] = node
        else:
            self._left[name_of(node)] = found

    def _is_product(self, node: gs.Node) -> bool:
        return node.op == "MatMul" and all(self._view.dtype(tensor) == np.float32 for tensor in node.inputs)

    def _layer(self, node: gs.Node) -> Layer | str:
        """Return how a layer is read, or why it stays in float."""
        asked = why_left(name_of(node), self._only, self._skip, "quantise")
        if asked is not None:
            return asked
        if node.op == "ConvTranspose":
            return TRANSPOSED
        if self._view.is_constant(node.inputs[0]):
            return "its first input is constant"
        if not self._view.is_constant(node.inputs[1]):
            return ALREADY if is_dequantised(node.inputs[1]) else PRODUCT
        if self._view.dtype(node.inputs[1]) != np.float32:
            return f"its weight is {self._view.dtype(node.inputs[1])}; float32 is what can be rounded here"
        weight = self._view.constant(node.inputs[1])
        if weight is None or not weight.size or not np.isfinite(weight).all():
            return "its weight is empty or holds numbers that are not finite"
        bias = None if source(node, 2) is None else 2
        if bias is not None:
            added = self._view.constant(node.inputs[2])
            outputs = weight.shape[0 if node.op == "Conv" or integer(node, "transB", 0) else 1]
            if added is None or added.reshape(-1).shape != (outputs,) or not np.isfinite(added).all():
                return "its bias is not one constant finite number for each output"
        if node.op == "Conv":
            if weight.ndim not in (3, 4):
                return "a convolution in three dimensions or more"
            return Layer(node, 0, bias, light=weight.shape[1] == 1 and integer(node, "group", 1) > 1)
        if node.op == "MatMul":
            return Layer(node, 1, None) if weight.ndim == 2 else "its weight is a batch of matrices"
        if real(node, "alpha", 1.0) != 1.0 or bias is not None and real(node, "beta", 1.0) != 1.0:
            return "its factors alpha and beta are not 1"
        if integer(node, "transA", 0):
            return "it transposes its input"
        return Layer(node, 0 if integer(node, "transB", 0) else 1, bias)

    def _is_possible(self, node: gs.Node) -> bool:
        view = self._view
        if (
            any(self._view.is_output(out) for out in node.outputs)
            or view.dtype(node.outputs[0]) != np.float32
        ):
            return False
        if node.op != "Split" and sum(not out.is_empty() for out in node.outputs) != 1:
            return False
        if node.op == "Resize":
            return text(node, "mode", "nearest") == "nearest" and (source(node, 1) is None)
        if node.op == "MaxPool":
            return view.rank(node.inputs[0]) == 4 and all(
                each == 1 for each in node.attrs.get("dilations", [1])
            )
        if node.op in MIXING:
            constants = [tensor for tensor in node.inputs if view.is_constant(tensor)]
            return not constants or self._constants and all(map(self._is_roundable, constants))
        return True

    def _is_roundable(self, tensor: gs.Tensor) -> bool:
        values = self._view.constant(tensor)
        return values is not None and values.dtype == np.float32 and bool(np.isfinite(values).all())

    def _strike(self) -> None:
        """Take out nodes until every one left reads bytes only and is read as bytes only."""
        self._given = self._given_anyway()
        while True:
            light = {} if self._whole else self._light()
            doomed = {key: node for key, node in {**self._others, **light}.items() if not self._stays(node)}
            if not doomed:
                return
            for key, node in doomed.items():
                if self._others.pop(key, None) is None:
                    del self._layers[key]
                    self._left[name_of(node)] = LIGHT

    def _leave(self, times: Speeds) -> None:
        """Take out what is slower in integers, and what is no gain without it."""
        layers = {key: layer.node for key, layer in self._layers.items() if not layer.tier.wide}
        region = Region(layers, self._others, self._products, self._moving, self.ends)
        for key, why in slower_in_integers(self._view, region, times).items():
            if self._others.pop(key, None) is None:
                self._left[name_of(self._layers.pop(key).node)] = why
        self._strike()

    def _given_anyway(self) -> set[str]:
        """Return the tensors that are bytes whoever reads them: what convolutions give, and what is made of it."""
        given: set[str] = set()
        for node in self._view.nodes():
            layer = self._layers.get(id(node))
            made = layer is not None and node.op == "Conv" and not layer.tier.wide
            if id(node) in self._others:
                made = all(tensor.name in given for tensor in self._moving(node))
            if made:
                given.update(end.name for end in self.ends(node))
        return given

    def _moving(self, node: gs.Node) -> list[gs.Tensor]:
        """Return what a node between layers reads that is no constant and no size or place."""
        read = node.inputs if node.op in MIXING else node.inputs[:1]
        return [tensor for tensor in read if not self._view.is_constant(tensor)]

    def _light(self) -> dict[int, gs.Node]:
        layers = self._layers.items()
        return {key: layer.node for key, layer in layers if layer.light and not layer.tier.wide}

    def _stays(self, node: gs.Node) -> bool:
        moving = self._moving(node)
        if not moving or not all(self._comes_rounded(tensor) for tensor in moving):
            return False
        users = [self._reads_bytes(user, end) for end in self.ends(node) for user in self._view.users(end)]
        if id(node) in self._layers:
            return all(users) and bool(users)
        if not all(
            tensor.name in self._given for tensor in moving
        ):  # products would have to be rounded for it
            return all(users) and bool(users)
        # Floats that read it cost one conversion, those that it reads one or more.
        return any(users) or node.op in SHRINKING or node.op in CARRYING

    def _comes_rounded(self, tensor: gs.Tensor) -> bool:
        maker = self._view.producer(tensor)
        if maker is not None and self._is_bound(maker):
            maker = self._view.producer(maker.inputs[0])
        if maker is None or not any(end is tensor for end in self.ends(maker)):
            return False
        if id(maker) in self._others:
            return True
        return id(maker) in self._layers and self._gives_bytes(self._layers[id(maker)])

    def _gives_bytes(self, layer: Layer) -> bool:
        """Tell whether a layer's result is rounded: a convolution's must be, a product also gives floats."""
        if layer.tier.wide:
            return False
        return layer.node.op == "Conv" or all(map(self._goes_to_integers, self.ends(layer.node)))

    def _goes_to_integers(self, tensor: gs.Tensor) -> bool:
        if self._view.is_output(tensor):
            return False
        users = self._view.users(tensor)
        return bool(users) and all(self._reads_bytes(user, tensor) for user in users)

    def _reads_bytes(self, node: gs.Node, tensor: gs.Tensor) -> bool:
        if id(node) in self._products:
            return True
        if id(node) in self._layers:
            return tensor is node.inputs[0] and not self._layers[id(node)].tier.wide
        return id(node) in self._others and (node.op in MIXING or tensor is node.inputs[0])

    def ends(self, node: gs.Node) -> list[gs.Tensor]:
        """Return what a node writes, behind the Relu or Clip that the rounding of its result does anyway."""
        out = node.outputs[0]
        if node.op in CARRYING:
            return [each for each in node.outputs if not each.is_empty()]
        user = self._view.sole_user(out)
        if user is None or not self._is_bound(user) or user.inputs[0] is not out:
            return [out]
        return [user.outputs[0]]

    def _is_bound(self, node: gs.Node) -> bool:
        """Tell whether a node cuts its input to a range that a grid with an end at zero has by itself."""
        if not self._holds_bounds or not is_default_domain(node):
            return False
        if node.op == "Relu":
            return True
        if node.op != "Clip" or source(node, 1) is None:
            return False
        low = self._view.constant(node.inputs[1])
        high = None if source(node, 2) is None else self._view.constant(node.inputs[2])
        return low is not None and not low.any() and (source(node, 2) is None or high is not None)

    def _rounded(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for node in self._view.nodes():
            layer = self._layers.get(id(node))
            if layer is not None and self._gives_bytes(layer) or id(node) in self._others:
                # Nodes come in order, so what is carried on has its scale by now.
                before = node.inputs[0].name
                for end in self.ends(node):
                    found[end.name] = found.get(before, before) if node.op in CARRYING else end.name
        self._share(found)
        return found

    def _share(self, found: dict[str, str]) -> None:
        """Let what only a Concat reads take the scale of what it writes: so nothing is rounded twice."""
        joins = [node for node in self._others.values() if node.op == "Concat"]
        for node in reversed(joins):
            whose = found[self.ends(node)[0].name]
            bounds = {tensor.name: self._bound_before(tensor) for tensor in node.inputs}
            for tensor in node.inputs:
                # A bound is part of a scale that ends where it cuts. All others end at zero too, or it would be lost.
                kept = bounds[tensor.name] == "" or set(bounds.values()) == {"Relu"}
                if kept and found.get(tensor.name) == tensor.name and self._view.sole_user(tensor) is node:
                    found[tensor.name] = whose

    def _bound_before(self, tensor: gs.Tensor) -> str:
        """Return the operator that a tensor's rounding does besides, an empty text where there is none."""
        maker = self._view.producer(tensor)
        return str(maker.op) if maker is not None and self._is_bound(maker) else ""


def _inner(nodes: Iterable[gs.Node]) -> Iterator[gs.Node]:
    """Yield the layers in bodies of loops and branches, however deep."""
    for node in nodes:
        for body in node.attrs.values():
            if isinstance(body, gs.Graph):
                yield from (each for each in body.nodes if each.op in _LAYERS and is_default_domain(each))
                yield from _inner(body.nodes)


__all__ = ["Choice", "Chooser", "Layer", "Tier", "is_dequantised", "name_of"]
