"""What InsertQdq decides before it writes anything: which nodes compute in integers, and which tensors are rounded.

A layer (Conv, Gemm, MatMul with a constant weight) has an integer kernel whatever stands around it. Nodes between
layers are only worth it where bytes come in: they are taken in when everything they read is rounded already, and
something that reads them computes in integers or they save conversions, which is found by striking out from all of
them. So a residual stream of float products stays float, and one between convolutions does not.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.cost.speeds import Speeds
from graphrewrite.match.view import View, is_default_domain
from graphrewrite.passes.patterns import why_left
from graphrewrite.passes.quant.choice import Choice, Layer, Tier, is_dequantised, name_of
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
from graphrewrite.passes.quant.target import Target
from graphrewrite.passes.quant.worth import Region, slower_in_integers
from graphrewrite.passes.tidy.reading import integer, real, source, text

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


class Chooser:
    """Works a `Choice` out.

    `holds_bounds` says that the activations' grid ends at zero where the values do, `constants` that those beside
    activations can be rounded too, `tier` how much of a layer is rounded by its name, `attention` that products of two
    activations are layers as well, `whole` that layers are taken in even where that saves no time. With `times`, what
    is slower in integers by them is left in floats. A `target` other than onnxruntime has kernels of its own.
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
        target: Target | None = None,
    ) -> None:
        self._view = view
        self._only, self._skip, self._tier = only, skip, tier
        self._holds_bounds = holds_bounds
        self._constants = constants
        self._attention, self._whole, self._times = attention, whole or target is not None, times
        self._target, self._steady = target, dict[int, tuple[int, ...]]()
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
            elif self._target is not None and node.op in self._target.operators:
                self._hold(node, self._target)
            elif (node.op in MIXING or node.op in CARRYING) and self._is_possible(node):
                self._others[id(node)] = node
        for inner in _inner(self._view.nodes()):
            self._left[name_of(inner)] = INNER
        self._strike()
        if self._times is not None and not self._whole:
            self._leave(self._times)
        return Choice(self._layers, self._products, self._others, self._rounded(), self._left, self._steady)

    def _take(self, node: gs.Node) -> None:
        found = self._layer(node)
        if isinstance(found, Layer):
            tier = self._tier(name_of(node))
            if tier.left:
                self._left[name_of(node)] = tier.left
            else:
                self._layers[id(node)] = found._replace(tier=tier)
        elif found is PRODUCT and self._target is not None and node.op in self._target.operators:
            self._hold(node, self._target)
        elif found is PRODUCT and self._attention and self._is_product(node):
            self._products[id(node)] = node
        else:
            self._left[name_of(node)] = found

    def _hold(self, node: gs.Node, target: Target) -> None:
        """Take in a node that the target computes in integers, unless it is the bound of one before."""
        slots = target.slots(node)
        maker = self._view.producer(node.inputs[0]) if node.inputs else None
        known = maker is not None and (id(maker) in self._layers or id(maker) in self._steady)
        if known and self._is_bound(node) and self._view.sole_user(node.inputs[0]) is node:
            return
        asked = why_left(name_of(node), self._only, self._skip, "quantise")
        if asked is not None:
            self._left[name_of(node)] = asked
            return
        for tensor in (*(node.inputs[slot] for slot in slots), node.outputs[0]):
            is_known = self._view.is_constant(tensor)
            if not (self._is_roundable(tensor) if is_known else self._view.dtype(tensor) == np.float32):
                return
        self._steady[id(node)] = slots

    def _is_product(self, node: gs.Node) -> bool:
        return node.op == "MatMul" and all(self._view.dtype(tensor) == np.float32 for tensor in node.inputs)

    def _layer(self, node: gs.Node) -> Layer | str:
        """Return how a layer is read, or why it stays in float."""
        asked = why_left(name_of(node), self._only, self._skip, "quantise")
        if asked is not None:
            return asked
        if self._target is not None and node.op not in self._target.layers:
            return "the target has no integer kernel of it"
        if node.op == "ConvTranspose" and (self._target is None or integer(node, "group", 1) > 1):
            return TRANSPOSED if self._target is None else "a transposed convolution in groups"
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
            return Layer(node, 0, bias, light=weight.shape[1] == 1 and integer(node, "group", 1) > 1)
        if node.op == "ConvTranspose":
            return Layer(node, 1, bias)
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
        if id(maker) in self._others or id(maker) in self._steady:
            return True
        return id(maker) in self._layers and self._gives_bytes(self._layers[id(maker)])

    def _gives_bytes(self, layer: Layer) -> bool:
        """Tell whether a layer's result is rounded: a convolution's must be, a product also gives floats."""
        if layer.tier.wide:
            return False
        return (
            layer.node.op == "Conv"
            or self._target is not None
            or all(map(self._goes_to_integers, self.ends(layer.node)))
        )

    def _goes_to_integers(self, tensor: gs.Tensor) -> bool:
        if self._view.is_output(tensor):
            return False
        users = self._view.users(tensor)
        return bool(users) and all(self._reads_bytes(user, tensor) for user in users)

    def _reads_bytes(self, node: gs.Node, tensor: gs.Tensor) -> bool:
        if id(node) in self._products:
            return True
        if id(node) in self._steady:
            return any(node.inputs[slot] is tensor for slot in self._steady[id(node)])
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
            gives = layer is not None and self._gives_bytes(layer) or id(node) in self._steady
            if gives or id(node) in self._others:
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
