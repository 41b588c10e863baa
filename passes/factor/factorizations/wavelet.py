"""Wavelet products: linear instead of quadratic in the width."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.factor.diagonals import Diagonals, fit, matched
from graphrewrite.passes.factor.factorizations import Floats, factorizations
from graphrewrite.passes.factor.wavelet_product import WaveletProduct
from graphrewrite.passes.factor.wavelets import STARTS, analyse, coefficients, filters, synthesise


@factorizations.register("wavelet")
@dataclass(frozen=True)
class Wavelet:
    """Write a layer as diagonals around a wavelet transform, a permutation and the transform back (Wolter et al. 2020).

    Args:
        levels: how often the low half is split again.
        start: the wavelet that the filters are: "haar" or "db2", with zeros on either side.
        taps: the length of the filters; longer ones leave training room.
        permutation: "matched" pairs the coefficients so that the weight is met best, "random" is the published start.
        rounds: how often the diagonals are fitted in turn; 0 leaves the outer ones at 1.
        diagonals: "fitted" to the weight, or "ones", the published start of training from nothing: with the random
            permutation the layer begins as a mixer that keeps lengths, whatever the weight was.

    A general matrix is far from any such product: this is where training starts, or what a layer trained in this form
    is written back to. Filters stay those of the wavelet here. Layers that are not square are filled up with zeros.
    """

    levels: int = 4
    start: str = "haar"
    taps: int = 6
    permutation: str = "matched"
    rounds: int = 3
    diagonals: str = "fitted"

    convolutions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.levels, bool) or not 1 <= self.levels <= 64:
            raise InvalidConfig(f"Wavelet.levels is {self.levels!r}; expected 1 to 64")
        if self.start not in STARTS:
            raise InvalidConfig(f"Wavelet.start is {self.start!r}; expected one of {', '.join(STARTS)}")
        filters(self.start, self.taps)
        if self.permutation not in ("matched", "random"):
            raise InvalidConfig(
                f"Wavelet.permutation is {self.permutation!r}; expected 'matched' or 'random'"
            )
        if isinstance(self.rounds, bool) or self.rounds < 0:
            raise InvalidConfig(f"Wavelet.rounds is {self.rounds!r}; expected a whole number of at least 0")
        if self.diagonals not in ("fitted", "ones"):
            raise InvalidConfig(f"Wavelet.diagonals is {self.diagonals!r}; expected 'fitted' or 'ones'")

    def factor(self, weight: Floats, rng: np.random.Generator) -> WaveletProduct:
        """Return the fitted product."""
        size = max(weight.shape)
        split, join = filters(self.start, self.taps)
        count = coefficients(size, self.taps, self.levels)
        analysis = analyse(np.eye(weight.shape[0], size), split, self.levels)
        synthesis = synthesise(np.eye(count), join, self.levels, size)[:, : weight.shape[1]]
        given = rng.permutation(count) if self.permutation == "random" else None
        if self.diagonals == "ones":
            order = matched(weight, analysis, synthesis) if given is None else given
            found = Diagonals(np.ones(weight.shape[0]), order, np.ones(count), np.ones(weight.shape[1]))
        else:
            found = fit(weight, analysis, synthesis, self.rounds, given)
        return WaveletProduct(
            size, self.levels, found.before, split, found.permutation, found.middle, join, found.after
        )
