"""Hadamard products: three diagonals, and transforms that only add and subtract."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.factor.diagonals import fit
from graphrewrite.passes.factor.factorizations import Floats, factorizations
from graphrewrite.passes.factor.hadamard_product import HadamardProduct, transform


@factorizations.register("hadamard")
@dataclass(frozen=True)
class Hadamard:
    """Write a layer as diagonals around two Walsh-Hadamard transforms and a permutation.

    Args:
        permutation: "matched" pairs the coefficients so that the weight is met best, "random" is the published start.
        rounds: how often the diagonals are fitted in turn; 0 leaves the outer ones at 1.

    A general matrix is far from any such product: this is where training starts. Widths are filled up with zeros to a
    power of two.
    """

    permutation: str = "matched"
    rounds: int = 3

    convolutions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.permutation not in ("matched", "random"):
            raise InvalidConfig(
                f"Hadamard.permutation is {self.permutation!r}; expected 'matched' or 'random'"
            )
        if isinstance(self.rounds, bool) or self.rounds < 0:
            raise InvalidConfig(f"Hadamard.rounds is {self.rounds!r}; expected a whole number of at least 0")

    def factor(self, weight: Floats, rng: np.random.Generator) -> HadamardProduct:
        """Return the fitted product."""
        size = 1 << (max(weight.shape) - 1).bit_length()
        matrix = transform(size)
        given = rng.permutation(size) if self.permutation == "random" else None
        found = fit(weight, matrix[: weight.shape[0]], matrix[:, : weight.shape[1]], self.rounds, given)
        return HadamardProduct(*found)
