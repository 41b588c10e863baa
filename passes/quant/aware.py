"""Where quantizers stand while a model is trained: on weights, on what layers read, on bytes between them.

The choice is that of `InsertQdq`, so what is trained is what integer kernels will compute. A tensor that layers only
read is rounded as they want it. One that sums and the like read too keeps 8 bits, and layers of fewer bits round it
once more for themselves: behind a Cast of their own, which is there for the time of training only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.bridge.transforms.base import check_bits
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model, Namer
from graphrewrite.ir.edit import set_input, sort_nodes
from graphrewrite.ir.values import numpy_dtype_to_onnx
from graphrewrite.match.view import View
from graphrewrite.passes.patterns import as_tuples
from graphrewrite.passes.quant.nonnegative import NonNegative
from graphrewrite.passes.quant.plan import Choice, Chooser, Layer, name_of
from graphrewrite.passes.quant.quantizers import Quantizer
from graphrewrite.passes.quant.quantizers.lsq import Lsq

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform

FLOAT_BITS = 32
_OWN = "graphrewrite.read"  # stem of the names of the casts
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Scheme:
    """Which layers get how many bits.

    Attributes:
        quantizer: of all layers but the first and the last.
        first_bits, last_bits: of layers with no other before, or behind; 8 or fewer are learned steps, 32 is float.
        between_bits: of tensors that sums and the like read.
        only, skip: patterns of layers.
    """

    quantizer: Quantizer
    first_bits: int = 8
    last_bits: int = 8
    between_bits: int = 8
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        as_tuples(self, "only", "skip")
        check_bits("between", self.between_bits)
        for name in ("first_bits", "last_bits"):
            bits = getattr(self, name)
            if bits != FLOAT_BITS and (isinstance(bits, bool) or not 2 <= bits <= 8):
                raise InvalidConfig(
                    f"{name} is {bits!r}; expected 2 to 8, or {FLOAT_BITS} to leave such layers in float; try 8"
                )

    def of(self, name: str, ends: "Ends") -> Quantizer | None:
        """Return what quantises a layer, None where it stays in float."""
        asked = [
            bits
            for bits, names in ((self.first_bits, ends.first), (self.last_bits, ends.last))
            if name in names
        ]
        if not asked:
            return self.quantizer
        return None if FLOAT_BITS in asked else Lsq(max(asked))


@dataclass(frozen=True)
class Ends:
    """Names of the layers that come first, and of those that come last."""

    first: frozenset[str]
    last: frozenset[str]


@dataclass(frozen=True)
class Placed:
    """A model that is ready to be trained.

    Attributes:
        model: with casts in front of layers that round what they read for themselves.
        choice: what is to compute in integers, by nodes of that model.
        transforms: what to attach, by the names of weights and activations.
        bits: of each layer's weight, by its name.
        casts: names of the tensors that stand for another until the training is over.
    """

    model: Model
    choice: Choice
    transforms: Mapping[str, "WeightTransform"]
    bits: Mapping[str, int]
    casts: frozenset[str]


def place(model: Model, scheme: Scheme, frozen: Mapping[str, str]) -> Placed:
    """Choose layers of a model and put casts into it, in place; `frozen` weights say why they are not trained.

    Raises:
        InvalidConfig: one weight is asked to be rounded in two ways.
    """
    view = View(model)
    ends = ends_of(view)
    kept: dict[str, str] = {}
    for node in view.nodes():
        if is_layer(view, node):
            if scheme.of(name_of(node), ends) is None:
                kept[name_of(node)] = "the first or the last layer, which was to stay in float"
            elif node.inputs[1].name in frozen:
                kept[name_of(node)] = f"its weight is not trained: {frozen[node.inputs[1].name]}"
    choice = Chooser(view, scheme.only, (*scheme.skip, *kept), True, constants=False).choose()
    left = {name: kept.get(name, reason) for name, reason in choice.left.items()}
    choice = choice._replace(left=left)
    wanted = {key: scheme.of(name_of(layer.node), ends) for key, layer in choice.layers.items()}
    quantizers = {key: quantizer for key, quantizer in wanted.items() if quantizer is not None}
    return _Placer(view, choice, quantizers, scheme.quantizer.between(scheme.between_bits)).placed()


def ends_of(view: View) -> Ends:
    """Return the layers that no other comes before, and those that no other comes behind."""
    reached: set[str] = set()  # names of tensors that a layer lies before
    first: set[str] = set()
    nodes = list(view.nodes())
    for node in nodes:
        is_behind = any(tensor.name in reached for tensor in node.inputs)
        if is_layer(view, node) and not is_behind:
            first.add(name_of(node))
        if is_behind or is_layer(view, node):
            reached |= {out.name for out in node.outputs}
    last: set[str] = set()
    leading: set[str] = set()  # names of tensors that a layer lies behind
    for node in reversed(nodes):
        is_before = any(out.name in leading for out in node.outputs)
        if is_layer(view, node) and not is_before:
            last.add(name_of(node))
        if is_before or is_layer(view, node):
            leading |= {tensor.name for tensor in node.inputs}
    return Ends(frozenset(first), frozenset(last))


def is_layer(view: View, node: gs.Node) -> bool:
    """Tell whether a node multiplies what it reads with a constant weight."""
    return node.op in _LAYERS and view.is_constant(node.inputs[1]) and not view.is_constant(node.inputs[0])


class _Placer:
    """Works out one `Placed`."""

    def __init__(
        self, view: View, choice: Choice, quantizers: Mapping[int, Quantizer], between: Quantizer
    ) -> None:
        self._view, self._choice, self._quantizers, self._usual = view, choice, quantizers, between
        self._bounds = NonNegative(view)
        self._transforms: dict[str, WeightTransform] = {}
        self._names = Namer(view.graph)
        self._labels = Namer(view.graph, nodes=True)
        self._casts: dict[tuple[str, Quantizer], gs.Variable] = {}

    def placed(self) -> Placed:
        for key, layer in self._choice.layers.items():
            self._weight(layer, self._quantizers[key])
        ready = dict(self._between())
        for key, layer in self._choice.layers.items():
            read = layer.node.inputs[0]
            if ready.get(self._choice.rounded.get(read.name, "")) != self._quantizers[key]:
                self._own(layer.node, read, self._quantizers[key])
        sort_nodes(self._view.graph)
        bits = {name_of(layer.node): self._quantizers[key].bits for key, layer in self._choice.layers.items()}
        casts = frozenset(tensor.name for tensor in self._casts.values())
        return Placed(self._view.model, self._choice, self._transforms, bits, casts)

    def _weight(self, layer: Layer, quantizer: Quantizer) -> None:
        name = layer.node.inputs[1].name
        wanted = quantizer.weight(layer.axis)
        if self._transforms.setdefault(name, wanted) != wanted:
            raise InvalidConfig(
                f"the weight {name!r} is shared, and {name_of(layer.node)!r} would have it rounded as {wanted}, "
                f"another layer as {self._transforms[name]}; expected one way; name one of the layers in `skip`"
            )

    def _between(self) -> Iterator[tuple[str, Quantizer]]:
        """Round each tensor that all its readers get rounded; yield its name and which quantizer's grid it is on."""
        for name in dict.fromkeys(self._choice.rounded.values()):
            readers = list(self._readers(name))
            found = {self._quantizers.get(id(node)) for node in readers}
            (only,) = found if len(found) == 1 else (None,)
            is_shared = only is not None and only.between(only.bits) == only
            chosen = only if only is not None and is_shared else self._usual
            self._transforms[name] = chosen.activation(not self._bounds.holds(name))
            yield name, chosen

    def _readers(self, root: str) -> Iterator[gs.Node]:
        """Yield who reads a tensor, or what was only moved about since."""
        tensors = {out.name: out for node in self._view.graph.nodes for out in node.outputs}
        for name, whose in self._choice.rounded.items():
            if whose == root:
                for user in self._view.users(tensors[name]):
                    if id(user) not in self._choice.others or self._choice.is_mixing(user):
                        yield user

    def _own(self, layer: gs.Node, read: gs.Tensor, quantizer: Quantizer) -> None:
        key = (read.name, quantizer)
        if key not in self._casts:
            cast = gs.Variable(self._names.fresh(f"{read.name}.{_OWN}"), np.dtype(np.float32), read.shape)
            label = self._labels.fresh(f"{read.name}.{_OWN}")
            to = numpy_dtype_to_onnx(np.dtype(np.float32))
            self._view.graph.nodes.append(gs.Node("Cast", label, {"to": to}, [read], [cast]))
            self._casts[key] = cast
            self._transforms[cast.name] = quantizer.activation(not self._bounds.holds(read.name))
        set_input(layer, 0, self._casts[key])
