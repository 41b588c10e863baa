"""Which constants of a model are weights, and how the numbers that add up to one output lie in them."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model, constant_value
from graphrewrite.ir.edit import all_graphs
from graphrewrite.match.view import is_default_domain
from graphrewrite.passes.patterns import why_left
from graphrewrite.passes.quant.kernels import ALREADY
from graphrewrite.passes.quant.plan import is_dequantised, name_of
from graphrewrite.passes.tidy.reading import integer
from graphrewrite.passes.weights.blocks import Singles

_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
LAYERS = frozenset({"Conv", "ConvTranspose", "Gather", "Gemm", "MatMul"}) | _RECURRENT


class Rows(NamedTuple):
    """How an array is read as rows: reshaped to `split`, its axes put into the order `order`.

    The first `leading` axes then count rows.
    """

    split: tuple[int, ...]
    order: tuple[int, ...]
    leading: int

    def of(self, values: Array) -> Singles:
        """Return an array as rows [rows, width]."""
        turned = values.reshape(self.split).transpose(self.order)
        count = int(np.prod(turned.shape[: self.leading]))
        return np.ascontiguousarray(turned.reshape(count, -1), np.float32)

    @property
    def turned(self) -> tuple[int, ...]:
        """Return the sizes of the axes in their new order."""
        return tuple(self.split[axis] for axis in self.order)

    @property
    def back(self) -> tuple[int, ...]:
        """Return the order that undoes `order`."""
        return tuple(int(axis) for axis in np.argsort(self.order))

    def restore(self, rows: Array, shape: Sequence[int]) -> Array:
        """Return rows as the array of this shape that they were."""
        return rows.reshape(self.turned).transpose(self.back).reshape(tuple(shape))


class Site(NamedTuple):
    """An input, by number, of a node that reads a weight; `place` is the node's among all nodes of the model."""

    place: int
    graph: gs.Graph
    node: gs.Node
    slot: int
    rows: Rows

    @property
    def weight(self) -> gs.Tensor:
        """Return the tensor it reads."""
        tensor: gs.Tensor = self.node.inputs[self.slot]
        return tensor

    @property
    def name(self) -> str:
        """What notes and patterns call its layer."""
        return name_of(self.node)

    @property
    def label(self) -> str:
        """What tables call it: the layer, and the input where a layer has two weights."""
        return f"{self.name} input {self.slot}" if self.node.op in _RECURRENT else self.name


class Left(NamedTuple):
    """A layer whose weights stay as they are, and why."""

    name: str
    why: str


class Picked(NamedTuple):
    """What is asked of a weight: patterns of the layers' names, how many numbers it must have, and of which types."""

    only: tuple[str, ...]
    skip: tuple[str, ...]
    smallest: int
    kinds: tuple[str, ...] = ("float32",)

    def why_not(self, site: Site) -> str | None:
        """Return why what a site reads cannot or shall not be rounded, None where it is."""
        asked = why_left(site.name, self.only, self.skip, "round")
        if asked is not None:
            return asked
        values = constant_value(site.weight)
        assert values is not None
        if values.dtype.name not in self.kinds:
            return f"its weight is {values.dtype.name}; {' and '.join(self.kinds)} can be rounded here"
        if values.size < max(self.smallest, 1):
            return f"its weight has {values.size} numbers, fewer than {self.smallest}"
        return (
            None
            if np.isfinite(site.rows.of(values)).all()
            else "its weight holds numbers that are not finite"
        )


def weights(model: Model, picked: Picked) -> Iterator[list[Site] | Left]:
    """Yield for each weight all that reads it, or why it stays, in the order of the nodes."""
    found: dict[int, list[Site]] = {}
    for site in sites(model):
        if isinstance(site, Left):
            yield site
        else:
            found.setdefault(id(site.weight), []).append(site)
    returned = {id(tensor) for graph in all_graphs(model.graph) for tensor in graph.outputs}
    for key, readers in found.items():
        why = next((why for why in map(picked.why_not, readers) if why), None) or _why_shared(readers)
        if key in returned:
            why = "its weight is an output too"
        yield readers if why is None else Left(readers[0].label, why)


def _why_shared(readers: Sequence[Site]) -> str | None:
    """Return why a weight would have to be kept in floats beside its codes, None where it would not."""
    known = {id(each.node) for each in readers if each.rows == readers[0].rows}
    weight = readers[0].weight
    others = [node for node in weight.outputs if id(node) not in known]
    if not others and len(weight.outputs) == len(readers):
        return None
    reader = others[0] if others else readers[0].node
    return f"its weight is read in another way too, by {name_of(reader)} ({reader.op})"


def sites(model: Model, ops: AbstractSet[str] = LAYERS) -> Iterator[Site | Left]:
    """Yield every site of nodes of the types `ops`, and the layers that have none, in the order of the nodes."""
    defaults = {id(tensor) for tensor in model.graph.inputs} if model.ir_version >= 4 else set()
    place = -1
    for graph in all_graphs(model.graph):
        for node in graph.nodes:
            place += 1
            if not is_default_domain(node) or node.op not in ops:
                continue
            made = list(_of_node(place, graph, node))
            kept = [site for site in made if id(site.weight) not in defaults]
            yield from kept
            if made and not kept:
                yield Left(name_of(node), "a caller may override its weight")
            elif not made and node.op != "Gather":
                done = len(node.inputs) > 1 and is_dequantised(node.inputs[1])
                computed = "its weight is computed, or a product of two activations"
                yield Left(name_of(node), ALREADY if done else computed)


def _of_node(place: int, graph: gs.Graph, node: gs.Node) -> Iterator[Site]:
    for slot in range(min(len(node.inputs), 3)):
        shape = _shape(node.inputs[slot])
        rows = None if shape is None else _rows(node, slot, shape)
        if rows is not None:
            yield Site(place, graph, node, slot, rows)


def _shape(tensor: gs.Tensor) -> tuple[int, ...] | None:
    values = constant_value(tensor)
    return None if values is None or values.ndim < 2 else tuple(int(size) for size in values.shape)


def _rows(node: gs.Node, slot: int, shape: tuple[int, ...]) -> Rows | None:
    """Return how the input `slot` of a node is read, None where it is not its weight."""
    straight = tuple(range(len(shape)))
    swapped = (*straight[:-2], straight[-1], straight[-2])
    if node.op == "Gather":
        return Rows(shape, straight, 1) if slot == 0 else None
    if node.op in _RECURRENT:
        return Rows(shape, straight, 2) if slot in (1, 2) else None
    if node.op == "MatMul":
        return Rows(shape, swapped if slot == 1 else straight, len(shape) - 1)
    if slot != 1:
        return None
    if node.op == "Gemm":
        return Rows(shape, straight if integer(node, "transB", 0) else swapped, 1)
    if node.op == "Conv":
        return Rows(shape, straight, 1)
    group = integer(node, "group", 1)  # of a ConvTranspose [inputs, outputs of a group, ...]
    split = (group, shape[0] // group, *shape[1:])
    return Rows(split, (0, 2, 1, *range(3, len(split))), 2)
