"""What a walk over a graph asks of shape inference, and what it finds."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from graphrewrite.cost.table import NodeCost
from graphrewrite.ir import Array
from graphrewrite.ir.shapes import Parts


class KnownShapes(Protocol):
    """What counting asks of shape inference (`ir.shapes.ShapeInfo` answers it)."""

    def shape(self, name: str) -> tuple[object, ...] | None:
        """Return the sizes of a tensor, ints where they are fixed."""
        ...

    def dtype(self, name: str) -> np.dtype[np.generic] | None:
        """Return the element type of a tensor."""
        ...

    def sizes(self, name: str, world: int = 0) -> tuple[int, ...] | None:
        """Return the sizes of a tensor in a sample world."""
        ...

    def numbers(self, name: str, world: int = 0) -> Array | None:
        """Return the values of a small tensor that do not depend on what the inputs contain."""
        ...

    def item(self, name: str, world: int = 0) -> tuple[tuple[int, ...], np.dtype[np.generic] | None] | None:
        """Return sizes and type of everything in a sequence."""
        ...

    def parts(self, name: str, world: int = 0) -> Parts | None:
        """Return sizes and type of each element of a sequence."""
        ...


@dataclass
class Tally:
    """What a walk found.

    Attributes:
        rows: one for each node, in order.
        weights: identity -> (numbers, bytes), bodies included.
        unknown: operator -> names of nodes without a rule; names inside bodies follow the name of their node.
        unsized: names of nodes whose sizes are not known.
        peak: most activation bytes alive at once.
        entered: activation bytes of the inputs, which are alive outside a body as well.
        inner: activation bytes of all tensors that are neither inputs nor outputs.
    """

    rows: list[NodeCost] = field(default_factory=list)
    weights: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    unsized: list[str] = field(default_factory=list)
    peak: int = 0
    entered: int = 0
    inner: int = 0

    @property
    def work(self) -> tuple[int, int]:
        """The sums of macs and ops."""
        return sum(row.macs for row in self.rows), sum(row.ops for row in self.rows)
