"""What a sweep learns about a model, and the table of rules it learns it with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import UNKNOWN, Axis, Joint, Key, Pair, Rows, rows_of
from graphrewrite.dims.labels import Ints, Labels
from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.shapes import ShapeInfo
from graphrewrite.ir.symbols import Dim

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut
    from graphrewrite.dims.step import Step

Rule = Callable[["Step"], None]
rules: dict[tuple[str, str], Rule] = {}


def rule(*ops: str, domain: str = "") -> Callable[[Rule], Rule]:
    """File a function as the dimension rule of some operators."""

    def add(function: Rule) -> Rule:
        for op in ops:
            rules[(domain, op)] = function
        return function

    return add


@dataclass(eq=False, slots=True)
class WeightUse:
    """A constant as the nodes in `sites` (node index, input slot) read it; one use is cut in one way.

    With `per_group` it is a vector with a number for each group of that balance, which goes when the group dies.
    """

    name: str
    axes: list[Axis]
    sites: list[tuple[int, int]] = field(default_factory=list)
    grouped: Grouped | None = None
    per_group: Balance | None = None

    def follows(self, axis: int) -> bool:
        """Whether what stays on an axis is not said by its labels but follows groups of another axis."""
        return self.per_group is not None or (self.grouped is not None and self.grouped.axis == axis)


@dataclass(frozen=True, eq=False, slots=True)
class Grouped:
    """The weight of a balanced grouped convolution: which slots stay differs from group to group.

    Slots lie on axis `axis`, `lead` times repeated as a whole, the output channels on axis `along`.
    """

    into: Axis
    out: Axis
    groups: int
    axis: int = 1
    along: int = 0
    lead: int = 1


@dataclass(frozen=True, eq=False, slots=True)
class Slots:
    """The labels of the slots of a computed weight, of which a group keeps as many as it keeps channels of `into`."""

    labels: Ints
    into: Axis
    groups: int


@dataclass(frozen=True, eq=False, slots=True)
class Balance:
    """A constraint: an axis seen as [groups, members] keeps equally many members in every group that lives.

    Groups of the same number in all balances of one `node` with so many groups die together; without a node (-1) every
    group lives.
    """

    axis: Axis
    groups: int
    node: int = -1


@dataclass(frozen=True, eq=False, slots=True)
class Open:
    """A node with groups, settled after the sweep: balanced if its axes stay plain, a product otherwise.

    `is_possible` says what else a balance needs; `joints` are the blocks it reads in so many groups, and leaves so.
    """

    node: int
    balances: tuple[Balance, ...]
    as_balance: Callable[[], None]
    as_product: Callable[[], None]
    is_possible: Callable[[], bool]
    joints: tuple[tuple[Joint, int], ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Members:
    """Two axes of a tensor that see the block `axis` in groups, of which each keeps members of its own.

    Axis `outer` of the tensor counts groups (or runs of positions that belong to one), axis `inner` their members;
    there all of them are `lead` times repeated, and each of them for the rest of the length.
    """

    axis: Axis
    groups: int
    outer: int
    inner: int
    lead: int


@dataclass(eq=False, slots=True)
class Mix:
    """A place where positions of cut axes influence each other: `kind` says how the proof masks input `slot`.

    `members` are positions that influence each other inside their group, where groups keep different ones.
    """

    kind: str
    node: int
    slot: int
    axes: dict[int, Axis]
    members: Members | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Product:
    """A matrix product of the inputs in slots `operands`: `batch` are the axes it is done once per position of.

    `inner` are the others: summed over, or an operand's own. `whole` marks attention done by one operator.
    """

    node: int
    operands: tuple[int, ...]
    batch: tuple[Axis, ...]
    inner: tuple[Axis, ...]
    whole: bool = False


@dataclass(eq=False, slots=True)
class MacTerm:
    """`coefficient` times the product of the alive counts of `axes` multiply-accumulates (in world A).

    With `shared` it is that times all groups over those that live: what is done in each group alone grows with what a
    group has. `branch` is the branch of an If (a place in `Analysis.branches`) whose work this is, -1 for none.
    """

    node: int
    coefficient: float
    axes: list[Axis]
    branch: int = -1
    shared: Balance | None = None


@dataclass(frozen=True)
class Branch:
    """One branch of the If with this node index; `within` is the branch around that If, -1 for none.

    Of the branches of one If the dearest counts, as long as nobody knows which is taken.
    """

    choice: int
    within: int


@dataclass(eq=False, slots=True)
class Restate:
    """How a node's numbers follow a cut; `needs` are the axes whose cut triggers it."""

    node: int
    needs: list[Axis]
    apply: Callable[[Cut], None]


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """One reader of a table that several layers read: `axes` are its own labels, `original` those of the table."""

    tensor: gs.Tensor
    node: int
    slot: int
    axes: list[Axis]
    original: list[Axis]


@dataclass(frozen=True, eq=False, slots=True)
class Items:
    """A list of tensors (or an optional, which is a list of at most one): the axes of each.

    Where `counted` is false nobody knows how many there are, and `axes` holds those that all of them share, or
    nothing while there is no tensor that could be in the list.
    """

    axes: tuple[list[Axis], ...]
    counted: bool = True


@dataclass(eq=False)
class Analysis:
    """Everything the sweep learnt about one model.

    `times` is how often the nodes that are being swept run (more than once inside a loop), `branch` the branch of an
    If they belong to (-1 for none). `bare` names tensors that no layer has a part in, `shared` tells
    who reads them. `tied` are the nodes at which dims of different heads turned out to be tied, None where heads lose
    the same dims anyway (see `graphrewrite.dims.cells`); `cells` are the axes of blocks whose heads do not.
    `ragged` are the axes of tensors whose groups keep different members: there are no positions.
    """

    model: Model
    info: ShapeInfo
    labels: Labels
    may_change: frozenset[str] = frozenset()
    tied: set[int] | None = None
    env: dict[str, list[Axis] | None] = field(default_factory=dict)
    weights: dict[tuple[str, int, int], WeightUse] = field(default_factory=dict)
    mixes: list[Mix] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    macs: list[MacTerm] = field(default_factory=list)
    restates: list[Restate] = field(default_factory=list)
    windows: list[Axis] = field(default_factory=list)
    loose: list[tuple[int, str]] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)
    contracted: set[tuple[int, int, int]] = field(default_factory=set)
    bypassed: dict[int, Axis] = field(default_factory=dict)
    ragged: dict[str, list[Axis]] = field(default_factory=dict)
    slots: list[Slots] = field(default_factory=list)
    cells: list[Axis] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)
    sequences: dict[str, Items] = field(default_factory=dict)
    open: list[Open] = field(default_factory=list)
    balances: list[Balance] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    bare: dict[str, int] = field(default_factory=dict)
    shared: dict[str, list[Reading]] = field(default_factory=dict)
    places: dict[str, Axis] = field(default_factory=dict)
    chosen: list[tuple[Axis, int]] = field(default_factory=list)
    resolved: dict[Key, tuple[Axis, Ints]] = field(default_factory=dict)
    times: float = 1.0
    branch: int = -1

    @cached_property
    def graphs(self) -> list[gs.Graph]:
        """The main graph, then those of bodies."""
        return list(all_graphs(self.model.graph))

    @cached_property
    def nodes(self) -> list[gs.Node]:
        """The nodes that indices stand for: those of the main graph in order, then those of bodies."""
        return [node for graph in self.graphs for node in graph.nodes]

    @cached_property
    def returned(self) -> frozenset[int]:
        """Ids of the tensors that the main graph or a body returns."""
        return frozenset(id(tensor) for graph in self.graphs for tensor in graph.outputs)

    @cached_property
    def constants(self) -> dict[str, gs.Constant]:
        """Initializers by name, of bodies too."""
        return {name: c for graph in self.graphs for name, c in graph.initializers.items()}

    def is_inside(self, node: int) -> bool:
        """Whether a node belongs to a body."""
        return node >= len(self.model.graph.nodes)

    @cached_property
    def uses(self) -> dict[tuple[int, int], WeightUse]:
        """Weight uses by (node index, input slot)."""
        return {site: use for use in self.weights.values() for site in use.sites}

    def items(self, name: str) -> tuple[list[Axis], ...]:
        """Return the axes of what a list holds, nothing for what is no list."""
        found = self.sequences.get(name)
        return () if found is None else found.axes

    def axes_of(self, name: str) -> list[Axis]:
        """Return the axes of a tensor, or of everything a list holds."""
        return [*(self.env.get(name) or ()), *(axis for item in self.items(name) for axis in item)]

    def rows(self, axis: Axis, why: str = "") -> Ints:
        """Return an axis's rows, resolved; not to be written to."""
        known = self.resolved.get(axis.key)
        if known is not None:
            return known[1]
        rows = self.labels.resolve(rows_of(self.labels, axis, why))
        if self.labels.is_closed:
            self.resolved[axis.key] = axis, rows  # the key stays valid only while the axis lives
        return rows

    def resolve(self, axes: Iterable[Axis]) -> None:
        """Resolve the rows of many axes in one go, once the labels are final; `rows` returns them from then on."""
        waiting: dict[Key, tuple[Axis, Ints]] = {}
        for axis in axes:
            block = axis.factors[0]
            if isinstance(block, Rows) and len(axis.factors) == 1 and block.labels.shape[1] == 1:
                waiting[axis.key] = axis, block.labels
        if not waiting or not self.labels.is_closed:
            return
        flat = self.labels.find(np.concatenate([labels for _, labels in waiting.values()]))
        stops = np.cumsum([len(labels) for _, labels in waiting.values()])
        products = np.append(0, np.cumsum(self.labels.is_expanded(flat)))[stops]
        start, before = 0, 0
        for (key, (axis, _)), stop, up_to in zip(
            waiting.items(), stops.tolist(), products.tolist(), strict=True
        ):
            if up_to == before:
                self.resolved[key] = axis, flat[start:stop]
            start, before = stop, up_to


def pairs(info: ShapeInfo, name: str) -> list[Pair] | None:
    """Return a tensor's axis lengths in both worlds (-1, -1 where unknown), None when even the rank is unknown."""
    shape = info.shape(name)
    return None if shape is None else pairs_of(shape)


def pairs_of(shape: Sequence[Dim]) -> list[Pair]:
    """Return the sizes of a shape in both worlds."""
    result: list[Pair] = []
    for dim in shape:
        if isinstance(dim, int):
            result.append((dim, dim))
        else:
            a, b = dim.sample
            result.append(UNKNOWN if a is None or b is None else (a, b))
    return result


def have_sizes(axes: Sequence[Axis], shape: Sequence[Dim]) -> bool:
    """Whether axes have the lengths that inference says, in both worlds and known alike."""
    if len(axes) != len(shape):
        return False
    for axis, dim in zip(axes, shape, strict=True):
        a, b = axis.sizes
        if isinstance(dim, int):
            if a != dim or b != dim:
                return False
        elif (a, b) != dim.sample and not (None in dim.sample and (a, b) == UNKNOWN):
            return False
    return True


def is_constant(tensor: gs.Tensor) -> bool:
    """Whether a tensor is an initializer or the output of a `Constant` node."""
    if isinstance(tensor, gs.Constant):
        return True
    return len(tensor.inputs) == 1 and tensor.inputs[0].op == "Constant" and not tensor.inputs[0].domain
