"""What the units of a group are: heads, dims of a head, hidden units of a block, the width of a residual stream ...

The kind follows from how positions meet in the graph; no name and no architecture is looked at.

- ``width``: the group lies where an addition joins full-size results of different layers, neither of which is made from
  all the layers the other is made from, or on the vectors that a lookup by values of the input picks. That is a
  residual stream (or an embedding) with all that reads and writes it.
- ``heads``: a batch axis of an attention product, or the outer of two groups that make up one axis of a weight
  (heads x dims). An attention product is a matrix product of two activations whose operand is, with no layer between
  but mixing of heads, the result of another product of activations, or whose result is such an operand; or an attention
  operator.
- ``head_dim``: another axis of an attention product, or the inner of two groups that make up one axis of a weight.
- ``own_head_dim``: a dim of one head, where heads may lose dims of their own (see `graphrewrite.dims.cells`). What has
  one position for each head then (a bias per head) is ``heads``.
- ``hidden``: the state of a recurrent operator, or of a recurrence written out step by step or as the body of a loop (a
  weight that reads and makes the same group, again and again).
- ``experts``: a batch axis of a product with a weight: each unit owns a matrix; or what a router chooses a few of.
- ``channels``: made by a convolution (or, if made by no layer, read by one), off the residual stream.
- ``mlp``: the same for other layers, off the residual stream: hidden units private to one block.
- ``other``: everything else.

A group that fits several is the first that fits in the order of `_Kinds.decide`, with one exception: heads and dims of
attention are width only where a skip connection carries them (attention without an output projection), not where scores
get a bias or queries are a sum of two projections.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import Axis, Key
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.places import is_read
from graphrewrite.dims.record import Analysis, is_constant
from graphrewrite.dims.structure import Structure
from graphrewrite.ir.edit import captured

KINDS: Final = ("heads", "head_dim", "mlp", "width", "channels", "hidden", "experts", "other")
# What an analysis finds only when it is asked to.
OWN_DIMS: Final = "own_head_dim"

Families = frozenset[int]
Layers = frozenset[int]
_NONE: frozenset[int] = frozenset()
# The last four are additions with something fused to them.
_ADDITIONS = frozenset(
    {
        "Add",
        "Sum",
        "QLinearAdd",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "SkipGroupNorm",
    }
)
_LOOKUPS = frozenset({"Gather", "GatherBlockQuantized", "EmbedLayerNormalization"})
_RECURRENT = frozenset({"RNN", "GRU", "LSTM"})
# What these report follows sizes, not contents.
_SIZES = frozenset({"Shape", "Size"})
# A tensor that more layers than this have written counts as one layer of its own, so that sets stay small.
_MANY = 64


def kinds(
    analysis: Analysis,
    structure: Structure,
    families: Sequence[Ints],
    places: Sequence[Sequence[tuple[int, Ints]]],
) -> list[str]:
    """Return the kind of each family of units; a family is an array of unit numbers of `structure`.

    `places` says which families are on each axis of `structure` (see `Structure.places`).
    """
    return _Kinds(analysis, structure, families, places).decide()


@dataclass(frozen=True)
class _Join:
    """An addition of results of different layers: the families on each axis, and the layers of each operand."""

    axes: tuple[Families, ...]
    layers: tuple[Layers, ...]


class _Kinds:
    def __init__(
        self,
        analysis: Analysis,
        structure: Structure,
        families: Sequence[Ints],
        places: Sequence[Sequence[tuple[int, Ints]]],
    ) -> None:
        self.analysis = analysis
        self.structure = structure
        self.count = len(families)
        self.family_of = np.full(analysis.labels.count, -1, dtype=np.int64)
        for number, ids in enumerate(families):
            self.family_of[structure.units[ids]] = number
        self.products = {product.node: product for product in analysis.products}
        self.costly = {term.node for term in analysis.macs}
        self.joins: list[_Join] = []
        self.looked_up: set[int] = set()
        self.of_activations: set[int] = set()  # products (by node) of which no operand is a weight
        self.batch_of: dict[
            int, Families
        ] = {}  # product (or layer that mixes heads) -> the families of its batch axes
        self.attention: set[int] = set()  # those that belong to some attention
        self.made_by: dict[int, set[str]] = {}  # family -> operators of the layers that make it
        self.read_by: dict[int, set[str]] = {}  # family -> operators of the layers that sum over it
        self._upstream: dict[int, Layers] = {}  # layer or addition -> the layers it reads from
        there = [frozenset(family for family, _ in found) for found in places]
        self._on: dict[Key, Families] = {key: there[number] for key, number in structure.numbers.items()}
        self.sums: dict[int, Families] = {}  # layer -> the families it sums over
        for mix in analysis.mixes:
            if mix.node in self.costly:
                self.sums[mix.node] = _NONE.union(*(self.on(axis) for axis in mix.axes.values()))
        self._sweep()

    def decide(self) -> list[str]:
        """Return the first kind that fits each family."""
        heads, dims, stacked = self._product_axes()
        chosen = {family for axis, _ in self.analysis.chosen for family in self.on(axis)}
        outer, inner = self._packed()
        repeated = self._repeated()
        cells = {family for axis in self.analysis.cells for family in self.on(axis)}
        ones = [each.axis for each in self.analysis.balances if each.axis.sizes[0] == each.groups]
        paired = {family for axis in ones for family in self.on(axis)}
        width = self._width(heads, dims)
        result = []
        for family in range(self.count):
            made = self.made_by.get(family) or self.read_by.get(family, set())
            tests = (
                ("hidden", family in repeated),
                ("experts", family in chosen),
                (OWN_DIMS, family in cells),
                ("heads", family in paired),
                ("width", family in width),
                ("heads", family in heads),
                ("head_dim", family in dims),
                ("hidden", bool(made & _RECURRENT)),
                ("heads", family in outer),
                ("head_dim", family in inner),
                ("experts", family in stacked),
                ("channels", any("Conv" in op for op in made)),
                ("mlp", bool(made)),
            )
            result.append(next((kind for kind, fits in tests if fits), "other"))
        return result

    # --- one sweep over the nodes ---------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Follow, for each tensor, the layers that wrote it and the products since; file joins and lookups."""
        graphs = self.analysis.graphs
        given = [t for graph in graphs for t in graph.inputs]
        wrote: dict[str, Layers] = {t.name: frozenset({-1 - i}) for i, t in enumerate(given)}
        since: dict[str, frozenset[int]] = {}
        for index, node in enumerate(self.analysis.nodes):
            if node.op in _SIZES:
                continue
            sources = node.inputs if len(graphs) == 1 else (*node.inputs, *captured(node))
            inputs = [t for t in sources if t.name in wrote and not is_constant(t)]
            if is_read(self.analysis, node) and node.inputs[0].name not in wrote:
                continue  # an expert's weight is a weight, whoever chose it
            if not inputs:
                if index in self.costly:
                    self._make(index, node, wrote)
                continue
            layers = _union([wrote[t.name] for t in inputs])
            products = _union([since.get(t.name, _NONE) for t in inputs])
            product = self.products.get(index)
            of_activations = product is not None and all(
                node.inputs[slot].name in wrote for slot in product.operands
            )
            stacked = product is not None and any(not axis.is_rigid for axis in product.batch)
            if product is not None and (of_activations or product.whole):
                self.of_activations.add(index)
                if product.whole or products:
                    self.attention |= {index, *products}
            if product is not None and (of_activations or stacked or product.whole):
                products = frozenset({index})
                self.batch_of[index] = _NONE.union(*(self.on(axis) for axis in product.batch))
            lookup = node.op in _LOOKUPS and (node.op != "Gather" or node.inputs[0].name not in wrote)
            if lookup:
                self._look_up(node)
            if lookup or (index in self.costly and not of_activations and not _is_depthwise(node)):
                self._make(index, node, wrote)
                self._upstream[index], layers = layers, frozenset({index})
                products = products if stacked else self._across(index, node, products)
            elif (node.op in _ADDITIONS and self._joins(node, wrote)) or len(layers) > _MANY:
                self._upstream[index], layers = layers, frozenset({index})
            for out in node.outputs:
                if out.name:
                    wrote[out.name] = layers
                    since[out.name] = products

    def _joins(self, node: gs.Node, wrote: dict[str, Layers]) -> bool:
        """File an addition whose full-size operands come from different layers; tell whether this is one."""
        axes = self.analysis.env.get(node.outputs[0].name)
        if axes is None:
            return False
        sizes = [axis.sizes for axis in axes]
        operands = []
        for tensor in node.inputs:
            found = self.analysis.env.get(tensor.name)
            if tensor.name in wrote and found is not None and [axis.sizes for axis in found] == sizes:
                operands.append(wrote[tensor.name])
        if not operands or _NONE.union(*operands) in operands:
            return False
        self.joins.append(_Join(tuple(self.on(axis) for axis in axes), tuple(operands)))
        return True

    def _look_up(self, node: gs.Node) -> None:
        for axis in self.analysis.env.get(node.outputs[0].name) or ():
            self.looked_up |= self.on(axis)

    def _make(self, index: int, node: gs.Node, wrote: Mapping[str, Layers]) -> None:
        """Note which families a layer makes, those on its weights and its results, and which it sums over."""
        own = _NONE
        for slot, tensor in enumerate(node.inputs):
            if tensor.name and (tensor.name not in wrote or is_constant(tensor)):
                use = self.analysis.uses.get((index, slot))
                axes = use.axes if use is not None else self.analysis.env.get(tensor.name) or ()
                if len(axes) > 1:
                    own = own.union(*[self.on(axis) for axis in axes if not axis.is_rigid])
        for out in node.outputs:
            for axis in self.analysis.env.get(out.name) or ():
                for family in self.on(axis) & own if own and not axis.is_rigid else ():
                    self.made_by.setdefault(family, set()).add(node.op)
        for family in self.sums.get(index, _NONE):
            self.read_by.setdefault(family, set()).add(node.op)

    def _across(self, index: int, node: gs.Node, products: frozenset[int]) -> frozenset[int]:
        """Return what a layer that mixes heads, and nothing else, hands on: the products before it, and itself."""
        sums = self.sums.get(index, _NONE)
        if not sums or not any(sums <= self.batch_of[p] for p in products):
            return _NONE
        out = self.analysis.env.get(node.outputs[0].name) or ()
        self.batch_of[index] = _NONE.union(*(self.on(axis) for axis in out))
        return products | {index}

    # --- what the records say -------------------------------------------------------------------------------------

    def _product_axes(self) -> tuple[set[int], set[int], set[int]]:
        """Return the families on batch axes and on other axes of attention, and on batch axes of other products."""
        heads: set[int] = set()
        stacked: set[int] = set()
        for node, families in self.batch_of.items():
            (heads if node in self.attention else stacked).update(families)
        dims = {
            family
            for node in self.attention & self.of_activations
            for axis in self.products[node].inner
            for family in self.on(axis)
        }
        return heads, dims - heads, stacked

    def _width(self, heads: set[int], dims: set[int]) -> set[int]:
        width = set(self.looked_up) - heads
        for join in self.joins:
            found = set().union(*join.axes)
            disputed = found & (heads | dims)
            width |= found - disputed
            if disputed and self._is_skip(join):
                packed = set().union(*(axis for axis in join.axes if len(axis) > 1))
                width |= (disputed - heads) | (disputed & packed)
        return width

    def _is_skip(self, join: _Join) -> bool:
        """Whether one operand was made from another: a layer of the one is upstream of the other's layers."""
        for mine in join.layers:
            goals = mine.union(*join.layers) - mine
            edge = min(goals, default=0)
            todo, seen = list(mine), set(mine)
            while todo:
                for layer in self._upstream.get(todo.pop(), _NONE) - seen:
                    if layer in goals:
                        return True
                    seen.add(layer)
                    if layer > edge:
                        todo.append(layer)
        return False

    def _packed(self) -> tuple[set[int], set[int]]:
        """Return the families that are outer and inner factors of an axis of some weight."""
        outer: set[int] = set()
        inner: set[int] = set()
        done: set[int] = set()
        for use in self.analysis.weights.values():
            if not use.sites or not any(site[0] in self.products for site in use.sites):
                continue
            for axis in use.axes:
                number = self.structure.axis_id(axis)
                if number < 0 or number in done:
                    continue
                done.add(number)
                table = self.structure.rows(number)
                if table.shape[1] < 2:
                    continue
                for family in self._families(table):
                    mine = np.where(self.family_of[table] == family, table, 0).max(axis=1)
                    shared = ((self.family_of[table] >= 0) & (self.family_of[table] != family)).any(axis=1)
                    places = np.flatnonzero((mine == mine[mine > 0][0]) & shared)
                    if len(places) > 1:
                        (outer if places[1] - places[0] == 1 else inner).add(family)
        return outer, inner - outer

    def _repeated(self) -> set[int]:
        """Return the families that one weight both reads and makes, at several places."""
        found: set[int] = set()
        for use in self.analysis.weights.values():
            node, slot = use.sites[0] if use.sites else (-1, -1)
            if len({node for node, _ in use.sites}) < 2 and not (use.sites and self.analysis.is_inside(node)):
                continue
            summed = {n for n in range(len(use.axes)) if (node, slot, n) in self.analysis.contracted}
            for n in summed:
                for other in set(range(len(use.axes))) - summed:
                    found |= self.on(use.axes[n]) & self.on(use.axes[other])
        return found

    def on(self, axis: Axis) -> Families:
        """Return the families that have units on an axis."""
        found = self._on.get(axis.key) if len(axis.factors) == 1 else None
        if found is not None:
            return found
        found = _NONE
        for part in axis.parts:
            if part.is_rigid:
                continue
            known = self._on.get(part.key)
            if known is None:
                known = self._on[part.key] = self._families(self.analysis.rows(part))
            found = found | known if found else known
        return found

    def _families(self, table: Ints) -> Families:
        numbers = np.unique(self.family_of[table])
        return frozenset(int(number) for number in numbers if number >= 0)


def _union(sets: Sequence[frozenset[int]]) -> frozenset[int]:
    return sets[0] if len(sets) == 1 else _NONE.union(*sets)


def _is_depthwise(node: gs.Node) -> bool:
    """Whether a convolution works on each channel alone: it passes channels on rather than making new ones."""
    if "Conv" not in node.op or node.attrs.get("group", 1) == 1:
        return False
    shapes = [tensor.shape for tensor in node.inputs if is_constant(tensor) and len(tensor.shape or ()) > 2]
    return any(shape[0] == node.attrs["group"] and shape[1] == 1 for shape in shapes)
