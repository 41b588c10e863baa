"""1xN: N neighbouring outputs keep or lose one input together, with all its taps (Lin et al. 2021, "1xN Pattern")."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.sparse.masks import Floats, Kept, block_means, largest, masks, whole_number


@masks.register("one_by_n")
@dataclass(frozen=True)
class OneByN:
    """Keep the blocks (N outputs, one input channel) of largest mean |w|, counted over each layer.

    Accuracy lies near that of single weights, and each block that stays is one vector operation. Outputs that fill no
    whole block make a smaller one.
    """

    n: int = 8

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InvalidConfig(f"one_by_n has N = {self.n}; expected at least 1; change it")

    @classmethod
    def of(cls, argument: str) -> "OneByN":
        """Read N."""
        return cls(whole_number(argument, 8, "the N of one_by_n"))

    @property
    def rows(self) -> int:
        """N outputs to a block."""
        return self.n

    def keep(self, weight: Floats, sparsity: float) -> Kept:
        """Drop the blocks of lowest mean."""
        scores = block_means(weight, self.n, 1).mean(axis=2)  # [blocks, inputs]
        kept = np.repeat(largest(scores, sparsity), self.n, axis=0)[: len(weight)]
        return np.broadcast_to(kept[:, :, None], weight.shape)
