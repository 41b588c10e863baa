"""Unstructured magnitude: the smallest weights go, wherever they are."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.sparse.masks import Floats, Kept, largest, masks


@masks.register("magnitude")
@dataclass(frozen=True)
class Magnitude:
    """Keep the weights of largest absolute value. The best accuracy at a sparsity, and no kernel gains from it."""

    @classmethod
    def of(cls, argument: str) -> "Magnitude":
        """Read nothing."""
        if argument:
            raise InvalidConfig(f"magnitude takes no argument, got {argument!r}; leave it out")
        return cls()

    @property
    def rows(self) -> int:
        """No blocks."""
        return 1

    def keep(self, weight: Floats, sparsity: float) -> Kept:
        """Drop the smallest |w|."""
        return largest(np.abs(weight), sparsity)
