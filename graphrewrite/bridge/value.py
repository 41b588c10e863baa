"""What the bridge knows of a tensor of the graph while it writes the torch module."""

from dataclasses import dataclass

import numpy as np
from torch import fx

from graphrewrite.bridge.host import Numbers
from graphrewrite.ir import Array

_LARGEST = 64  # numbers in a constant that takes part in arithmetic on the host


@dataclass(eq=False)
class Value:
    """One tensor of the graph in the forms it exists in; at least one of the first three is there.

    Attributes:
        name: the tensor's name in the graph.
        node: the call or placeholder that yields it as a torch tensor (or a list of them).
        numbers: the same as Python numbers, or the call that yields them.
        array: its numbers when they can never change.
        kind: element type of `numbers`.
        rank: 0 or 1, of `numbers`.
        length: how many numbers there are, where that is known before running.
    """

    name: str
    node: fx.Node | None = None
    numbers: fx.Node | Numbers | None = None
    array: Array | None = None
    kind: np.dtype[np.generic] = np.dtype(np.int64)
    rank: int | None = None
    length: int | None = None

    @property
    def is_small(self) -> bool:
        """Whether it is a constant that can take part in arithmetic on the host."""
        array = self.array
        return array is not None and array.ndim <= 1 and array.size <= _LARGEST and array.dtype.kind in "iub"

    @property
    def numbers_rank(self) -> int | None:
        """0 for a number, 1 for a vector, None when it is neither or unknown."""
        return self.array.ndim if self.array is not None else self.rank

    @property
    def kind_of_numbers(self) -> np.dtype[np.generic]:
        """Element type."""
        return self.array.dtype if self.array is not None else self.kind

    @property
    def known_length(self) -> int | None:
        """How many numbers there are, None when that is unknown."""
        if self.array is not None:
            return self.array.size
        return len(self.numbers) if isinstance(self.numbers, tuple) else self.length
