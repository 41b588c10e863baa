"""Singular values: the closest weight of a given rank."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.factor.factorizations import Floats, factorizations
from graphrewrite.passes.factor.low_rank import LowRank, truncated


@factorizations.register("svd")
@dataclass(frozen=True)
class Svd:
    """Keep the largest singular values of each weight, the closest product there is (Eckart and Young, 1936).

    Args:
        rank: so many; 0 to choose by the other two.
        energy: so many that this share of the sum of their squares stays.
        params: so many that at most this share of the weight's numbers stays; 1 sets no bound.

    With several, the smallest rank holds. A convolution counts as the matrix [channels in x kernel, channels out].
    """

    rank: int = 0
    energy: float = 1.0
    params: float = 0.5

    convolutions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or self.rank < 0:
            raise InvalidConfig(f"Svd.rank is {self.rank!r}; expected a whole number, 0 for no fixed rank")
        for name in ("energy", "params"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise InvalidConfig(f"Svd.{name} is {value!r}; expected a share in (0, 1]")

    def factor(self, weight: Floats, rng: np.random.Generator) -> LowRank:
        """Return the truncated product."""
        height, width = weight.shape
        ranks = [min(height, width)]
        if self.params < 1:
            ranks.append(max(1, int(self.params * height * width / (height + width))))
        if self.rank:
            ranks.append(self.rank)
        if self.energy < 1:
            squares = np.linalg.svd(weight, compute_uv=False) ** 2
            reached = np.cumsum(squares) >= self.energy * squares.sum() * (1 - 1e-12)
            ranks.append(int(np.argmax(reached)) + 1)
        return truncated(weight, min(ranks))
