"""What an adapter sees of a node, and the table that adapters are in."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, constant_value
from graphrewrite.ir.shapes import ShapeInfo
from graphrewrite.passes.factor.writer import Writer
from graphrewrite.passes.tidy.reading import integer, source


class Unfit(Exception):
    """A node has no form in the next version; the text says why."""


class Site:
    """One node on its way to the next version of its operator.

    Attributes:
        node: it, to be changed where it is: its name and those of its outputs stay.
        writer: for constants, and for nodes that go in front of it.
        behind: nodes that go behind it.
    """

    def __init__(self, node: gs.Node, writer: Writer, info: ShapeInfo, returned: set[int]) -> None:
        self.node = node
        self.writer = writer
        self.behind: list[gs.Node] = []
        self._info = info
        self._returned = returned

    def shape(self) -> tuple[object, ...] | None:
        """Return the shape of what the node reads first, None where its rank is not known."""
        tensor = self.node.inputs[0]
        found: tuple[object, ...] | None = self._info.shape(tensor.name)
        return tuple(tensor.shape) if isinstance(tensor, gs.Constant) else found

    def dtype(self, tensor: gs.Tensor) -> "np.dtype[np.generic] | None":
        """Return a tensor's element type, None where it is not known."""
        found = tensor.dtype if isinstance(tensor, gs.Constant) else self._info.dtype(tensor.name)
        return None if found is None else np.dtype(found)

    def value(self, place: int) -> Array | None:
        """Return the numbers of a constant input, None where it is none or is left out."""
        tensor = source(self.node, place)
        return None if tensor is None else constant_value(tensor)

    def whole(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        return integer(self.node, name, default)

    def take(self, name: str) -> object:
        """Take an attribute off the node and return it, None where it has none."""
        return self.node.attrs.pop(name, None)

    def put(self, place: int, values: Array, stem: str) -> None:
        """Make a constant the input at a place; inputs before it that are not there are left out."""
        while len(self.node.inputs) <= place:
            self.node.inputs.append(gs.Variable.empty())
        self.node.inputs[place] = self.writer.constant(values, stem)

    def ints_to_input(self, name: str, place: int) -> None:
        """Make an attribute of integers an input."""
        values = self.take(name)
        if values is not None:
            self.put(place, np.asarray(values, np.int64), name)

    def only_first_output(self, why: str) -> None:
        """Leave out all outputs but the first.

        Raises:
            Unfit: one of them is read.
        """
        outs = list(self.node.outputs)
        if any(not out.is_empty() and (len(out.outputs) or id(out) in self._returned) for out in outs[1:]):
            raise Unfit(why)
        for out in outs[1:]:
            self.node.outputs.remove(out)


Adapter = Callable[[Site], None]


class Table(dict[tuple[str, int], Adapter]):
    """Adapters by operator and by the operator set that they lead to."""

    def to(self, since: int, *ops: str) -> Callable[[Adapter], Adapter]:
        """Return a decorator for what takes nodes of these operators to their version of operator set `since`."""

        def add(function: Adapter) -> Adapter:
            self.update({(op, since): function for op in ops})
            return function

        return add
