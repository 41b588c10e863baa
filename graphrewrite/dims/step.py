"""What a dimension rule sees of its node, and what it may do: read, tie, hand over, record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import (
    ONE,
    UNKNOWN,
    Axis,
    Digit,
    Joint,
    Pair,
    Rows,
    digit_rows,
    of_rows,
    pin_axis,
    rigid,
    rows_of,
    tie_axes,
)
from graphrewrite.dims.full_width import at_full_width
from graphrewrite.dims.labels import Ints, Labels
from graphrewrite.dims.record import (
    Analysis,
    Balance,
    MacTerm,
    Mix,
    Open,
    Product,
    Reading,
    Restate,
    WeightUse,
    have_sizes,
    is_constant,
    pairs,
    pairs_of,
)
from graphrewrite.dims.reshape import reshape
from graphrewrite.dims.shared import is_table
from graphrewrite.dims.windows import use_key
from graphrewrite.errors import ShapeError
from graphrewrite.ir import Array, constant_value
from graphrewrite.ir.edit import captured

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut


class Step:
    """What a rule sees of its node."""

    __slots__ = ("_branch", "_read", "_times", "analysis", "index", "labels", "node", "opset", "why")

    def __init__(self, analysis: Analysis, index: int, node: gs.Node) -> None:
        self.analysis = analysis
        self.labels = analysis.labels
        self.index = index
        self.node = node
        self.opset = analysis.model.opset
        self.why = (
            f"{node.op} {node.name}"
            if node.name
            else f"{node.op} -> {node.outputs[0].name if node.outputs else ''}"
        )
        self._read: set[int] = set()
        # Those of now: work may be recorded after the sweep.
        self._times, self._branch = analysis.times, analysis.branch

    # --- the node -------------------------------------------------------------------------------------------------

    def has(self, slot: int) -> bool:
        """Whether input `slot` is given."""
        return slot < len(self.node.inputs) and self.node.inputs[slot].name != ""

    def attr(self, name: str, default: object = None) -> object:
        """Return an attribute."""
        return self.node.attrs.get(name, default)

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        value = self.node.attrs.get(name, default)
        if not isinstance(value, int):
            raise ShapeError(
                f"{self.why}: the attribute {name} is {value!r}, expected a whole number; the model is malformed"
            )
        return value

    def integers(self, name: str) -> list[int] | None:
        """Return a list-of-integers attribute, None when absent."""
        value = self.node.attrs.get(name)
        return None if not isinstance(value, list) else [int(v) for v in value]

    def numbers(self, slot: int, world: int = 0) -> list[int] | None:
        """Return the integers an input holds when they do not depend on the inputs' content."""
        if not self.has(slot):
            return None
        value = self.analysis.info.numbers(self.node.inputs[slot].name, world)
        if value is None:
            constant = constant_value(self.node.inputs[slot])
            value = constant if constant is not None and constant.size <= 1 << 20 else None
        if value is None or value.dtype == object and any(v is None for v in value.ravel()):
            return None
        return [int(v) for v in np.asarray(value).ravel()]

    def constant(self, slot: int) -> Array | None:
        """Return the value of a constant input of any size."""
        return constant_value(self.node.inputs[slot]) if self.has(slot) else None

    def rank(self, slot: int) -> int:
        """Return an input's rank."""
        return len(self.sizes(slot))

    def sizes(self, slot: int) -> list[Pair]:
        """Return an input's axis lengths in both worlds."""
        sizes = pairs(self.analysis.info, self.node.inputs[slot].name)
        if sizes is None:
            raise UnknownRank(self.node.inputs[slot].name)
        return sizes

    def out_sizes(self, output: int = 0) -> list[Pair]:
        """Return an output's axis lengths in both worlds."""
        sizes = pairs(self.analysis.info, self.node.outputs[output].name)
        if sizes is None:
            raise UnknownRank(self.node.outputs[output].name)
        return sizes

    # --- axes -----------------------------------------------------------------------------------------------------

    def axes(self, slot: int) -> list[Axis]:
        """Return the axes of an input; the first reading of a constant gives its axes fresh labels."""
        self._read.add(slot)
        tensor = self.node.inputs[slot]
        found = self.analysis.env.get(tensor.name)
        if found is not None:
            return found
        if is_constant(tensor):
            return self._weight(tensor, slot).axes
        return [rigid(pair, "its shape is not known") for pair in self.sizes(slot)]

    def own(self, slot: int) -> list[Axis]:
        """Return axes for one reader of a table or filler that several layers read (see `graphrewrite.dims.shared`)."""
        axes, tensor = self.axes(slot), self.node.inputs[slot]
        if not is_table(self.analysis, tensor):
            return axes
        mine = [self.fresh(axis.sizes) if axis.is_static and not axis.is_rigid else axis for axis in axes]
        reading = Reading(tensor, self.index, slot, mine, axes)
        self.analysis.shared.setdefault(tensor.name, []).append(reading)
        return mine

    def is_made_by_a_layer(self, slot: int) -> bool:
        """Whether an input has positions that can go and are not those of a constant, a table or a filler."""
        tensor = self.node.inputs[slot]
        if tensor.name in self.analysis.bare or is_constant(tensor):
            return False
        return any(not axis.is_rigid for axis in self.axes(slot))

    def ignore(self, *slots: int) -> None:
        """Declare inputs of which nothing but the element type matters: they may be cut as others see fit."""
        self._read.update(slots)

    def weight(self, slot: int, free: Sequence[int]) -> list[Axis]:
        """Return the axes of a constant input of which only the axes `free` may be cut."""
        self._read.add(slot)
        tensor = self.node.inputs[slot]
        found = self.analysis.env.get(tensor.name)
        return found if found is not None else self._weight(tensor, slot, free).axes

    def use(self, slot: int, axes: Sequence[Axis]) -> None:
        """Read a constant input under these axes instead of fresh ones (a weight whose cut the rule knows)."""
        self._read.add(slot)
        tensor = self.node.inputs[slot]
        key = (tensor.name, self.index, slot)
        self.analysis.weights[key] = WeightUse(tensor.name, list(axes), [(self.index, slot)])

    def out(self, axes: Sequence[Axis], output: int = 0) -> None:
        """Set the axes of an output."""
        if output < len(self.node.outputs) and self.node.outputs[output].name:
            self.analysis.env[self.node.outputs[output].name] = list(axes)

    def rows(self, axis: Axis) -> Ints:
        """Return an axis's rows (unresolved), refining unrefined digits."""
        return rows_of(self.labels, axis, self.why)

    def forced(self, axes: Sequence[Axis]) -> list[Axis]:
        """Return axes whose unrefined digits were refined into products."""
        return [refined(self.labels, axis, self.why) if axis.is_split else axis for axis in axes]

    def tie(self, a: Axis, b: Axis, why: str | None = None) -> None:
        """Make two axes one axis."""
        tie_axes(self.labels, a, b, why or self.why)

    def digits(self, axis: Axis, dims: Sequence[int]) -> list[Axis]:
        """See a static axis as several; rigid stays rigid."""
        if len(dims) == 1:
            return [axis]
        if axis.is_rigid:
            return [rigid(d, axis.cause) for d in dims]
        made = iter(
            self.labels.digits(self.rows(axis), [d for d in dims if d > 1], self.why) if max(dims) > 1 else []
        )
        return [of_rows(next(made)) if d > 1 else ONE for d in dims]

    def reshaped(
        self,
        axes: Sequence[Axis],
        target: Sequence[Pair],
        is_shuffle: Callable[[list[Axis]], bool] | None = None,
    ) -> list[Axis]:
        """Return the axes after a row-major reshape.

        A block whose positions come out in another order is a product, unless `is_shuffle` says that they are moved
        there at once.
        """
        out = reshape(self.labels, axes, target, self.why)
        moved = any(isinstance(f, Rows) and f.order is not None for axis in out for f in axis.factors)
        if moved and (is_shuffle is None or not is_shuffle(out)):
            self.forced(axes)  # members of its groups alternate there: every group must keep the same ones
        return out

    def pin(self, axis: Axis, why: str) -> None:
        """Keep every position of an axis, for this reason."""
        pin_axis(self.labels, axis, f"{self.why}: {why}")

    def pin_positions(self, axis: Axis, positions: Sequence[int], why: str) -> None:
        """Keep some positions of an axis."""
        if not axis.is_rigid:
            self.labels.pin(self.rows(axis)[list(positions)], f"{self.why}: {why}")

    def fresh(self, pair: Pair) -> Axis:
        """Return an axis with new labels; length one and dynamic axes are rigid."""
        a, b = pair
        if a != b or a <= 1:
            return rigid(pair, "its length follows the input's")
        return of_rows(self.labels.fresh(a))

    def ones(self, count: int) -> list[Axis]:
        """Return axes of length one."""
        return [ONE] * count

    def window(self, axis: Axis) -> Axis:
        """Mark an axis as a window that may not become empty; a window of one position is pinned."""
        if axis.sizes == (1, 1):
            self.pin(axis, "a window of a single position")
        elif not axis.is_rigid:
            self.analysis.windows.append(axis)
        return axis

    def neighbours(self, number: int, axis: Axis) -> None:
        """Declare that positions along axis `number` of input 0, an axis of output 0 too, are mixed by their distance.

        Where it is cut the node goes on working at full width (see `at_full_width`), so nothing is pinned.
        """
        if not axis.is_static:
            self.pin(axis, "neighbours along a dynamic axis are mixed")
        elif not axis.is_rigid:
            self.mix("neighbours", 0, {number: axis})
            rank = self.rank(0)
            self.restate([axis], lambda cut: at_full_width(cut, self.index, number, axis, rank))

    # --- records --------------------------------------------------------------------------------------------------

    def mix(self, kind: str, slot: int, axes: dict[int, Axis]) -> None:
        """Record that positions of these axes of input `slot` influence each other."""
        loose = {}
        for number, axis in axes.items():
            if not axis.is_rigid and axis.is_static:
                loose[number] = axis
            elif not axis.is_rigid:  # the proof's mask is a constant
                self.pin(axis, "positions of a dynamic axis are mixed")
        if loose:
            self.analysis.mixes.append(Mix(kind, self.index, slot, loose))

    def contracts(self, slot: int, axis: int) -> None:
        """Record that a node sums over this axis of an operand: a weight there reads channels, it makes none."""
        self.analysis.contracted.add((self.index, slot, axis))

    def multiplies(
        self, operands: Sequence[int], batch: Sequence[Axis], inner: Sequence[Axis], whole: bool = False
    ) -> None:
        """Record which axes of a matrix product are batch axes; only the kinds of groups depend on it."""
        self.analysis.products.append(Product(self.index, tuple(operands), tuple(batch), tuple(inner), whole))

    def macs(self, coefficient: float, axes: Sequence[Axis], shared: Balance | None = None) -> None:
        """Record multiply-accumulates; rigid axes count with their length in world A, `shared` as `MacTerm` says."""
        loose = []
        coefficient *= self._times
        for axis in axes:
            for part in axis.parts:
                if part.is_rigid:
                    coefficient *= max(part.sizes[0], 0)
                else:
                    loose.append(part)
        self.analysis.macs.append(MacTerm(self.index, coefficient, loose, self._branch, shared))

    def balance(
        self,
        balances: Sequence[Balance],
        as_balance: Callable[[], None],
        as_product: Callable[[], None],
        joints: Sequence[tuple[Joint, int]] = (),
        is_possible: Callable[[], bool] = lambda: True,
    ) -> None:
        """Leave the choice between equal counts per group and a product of groups and slots until the sweep is done.

        `joints` are blocks, with their numbers of groups, that may stay split in groups without a tie; `is_possible`
        says whether a balance can be, asked after the sweep as long as products refine labels.
        """
        self.analysis.open.append(
            Open(self.index, tuple(balances), as_balance, as_product, is_possible, tuple(joints))
        )

    def restate(self, needs: Sequence[Axis], apply: Callable[[Cut], None]) -> None:
        """Record how the node's numbers follow a cut of any of `needs`."""
        loose = [axis for axis in needs if not axis.is_rigid]
        if loose:
            self.analysis.restates.append(Restate(self.index, loose, apply))

    # --- finishing ------------------------------------------------------------------------------------------------

    def _weight(self, tensor: gs.Tensor, slot: int, free: Sequence[int] | None = None) -> WeightUse:
        sizes = self.sizes(slot)
        key = use_key(self.analysis, tensor, sizes, (self.index, slot))
        use = self.analysis.weights.get(key)
        if use is None:
            axes = [
                self.fresh(p) if free is None or i in free else rigid(p, "a kernel axis")
                for i, p in enumerate(sizes)
            ]
            use = self.analysis.weights[key] = WeightUse(tensor.name, axes)
        use.sites.append((self.index, slot))
        return use

    def finish(self) -> None:
        """Pin what the rule did not ask for; give outputs it did not set rigid axes."""
        for slot, tensor in enumerate(self.node.inputs):
            if slot not in self._read and tensor.name and not is_constant(tensor):
                for axis in self.analysis.env.get(tensor.name) or ():
                    self.pin(axis, f"input {slot} is a parameter of the op")
        for output, tensor in enumerate(self.node.outputs):
            if tensor.name and tensor.name not in self.analysis.env:
                sizes = pairs(self.analysis.info, tensor.name)
                self.analysis.env[tensor.name] = (
                    None if sizes is None else [rigid(p, f"made by {self.why}") for p in sizes]
                )
            axes = self.analysis.env.get(tensor.name)
            if axes is None:
                continue
            shape = self.analysis.info.shape(tensor.name)
            if shape is not None and not have_sizes(axes, shape):
                sizes, known = [axis.sizes for axis in axes], pairs_of(shape)
                if any(UNKNOWN not in (a, b) and a != b for a, b in zip(sizes, known, strict=False)) or len(
                    sizes
                ) != len(known):
                    raise ShapeError(
                        f"{self.why}: the dimension rule gives output {output} the sizes {sizes}, inference {known}; "
                        "this is a defect of the rule; please report the model"
                    )
            if any(axis.is_split for axis in axes):
                self.analysis.loose.append((self.index, tensor.name))

    def refuse(self, why: str, tell: bool = False) -> None:
        """Pin every input and everything a subgraph captures; the outputs become rigid.

        With `tell` the operator is listed with its reason among those that are not followed: the user can do something
        about it, or will look for it.
        """
        if tell:
            op = f"{self.node.domain}.{self.node.op}" if self.node.domain else self.node.op
            self.analysis.refused.setdefault(f"{op} ({why})", []).append(self.why)
        tensors = [tensor for tensor in (*self.node.inputs, *captured(self.node)) if tensor.name]
        for tensor in tensors:
            if tensor.name in self.analysis.places:
                self.pin(self.analysis.places[tensor.name], why)
            for axis in self.analysis.axes_of(tensor.name):
                self.pin(axis, why)
        for slot, tensor in enumerate(self.node.inputs):  # constants this rule had read before it gave up
            for key in ((tensor.name, self.index, slot), (tensor.name, -1, -1)):
                for axis in self.analysis.weights[key].axes if key in self.analysis.weights else ():
                    self.pin(axis, why)
        self._read.update(range(len(self.node.inputs)))
        for tensor in self.node.outputs:
            sizes = pairs(self.analysis.info, tensor.name)
            self.analysis.env[tensor.name] = (
                None if sizes is None else [rigid(pair, f"made by {self.why}") for pair in sizes]
            )


class UnknownRank(Exception):
    """A rule needs the rank of a tensor that inference could not give."""


def refined(labels: Labels, axis: Axis, why: str) -> Axis:
    """Return an axis whose unrefined digits became rows of a product."""
    return Axis(tuple(Rows(digit_rows(labels, f, why)) if isinstance(f, Digit) else f for f in axis.factors))
