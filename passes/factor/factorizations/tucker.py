"""Tucker-2: convolutions as three, the middle one between fewer channels on both sides."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.factor.factorizations import Floats, factorizations
from graphrewrite.passes.factor.factorizations.svd import Svd
from graphrewrite.passes.factor.factors import ConvolutionFactors
from graphrewrite.passes.factor.low_rank import LowRank
from graphrewrite.passes.factor.tucker_product import Tucker2


@factorizations.register("tucker")
@dataclass(frozen=True)
class Tucker:
    """Project both channel axes of a convolution on its strongest directions (Kim et al., 2016).

    Args:
        params: at most this share of a weight's numbers stays; both inner widths are the same share of the outer ones.
        rounds: how often both bases are fitted in turn after the start (De Lathauwer et al., 2000, HOOI); 0 keeps the
            singular vectors of the unfolded weight.

    Matrix products and convolutions of one tap have no kernel to keep between the two bases; they are factored as `svd`
    does. The published ranks come from a Bayesian estimate, these from the share asked for.
    """

    params: float = 0.5
    rounds: int = 2

    convolutions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.params <= 1:
            raise InvalidConfig(f"Tucker.params is {self.params!r}; expected a share in (0, 1]")
        if isinstance(self.rounds, bool) or self.rounds < 0:
            raise InvalidConfig(f"Tucker.rounds is {self.rounds!r}; expected a whole number of at least 0")

    def factor(self, weight: Floats, rng: np.random.Generator) -> LowRank:
        """Return the truncated product of a matrix."""
        return Svd(params=self.params).factor(weight, rng)

    def factor_kernels(self, weight: Floats, taps: int, rng: np.random.Generator) -> ConvolutionFactors:
        """Return what stands for `weight` [in x taps, out]: bases and core, or a product where there is one tap."""
        return self.decomposed(weight, taps) if taps > 1 else self.factor(weight, rng)

    def decomposed(self, weight: Floats, taps: int) -> Tucker2:
        """Return both bases and the core of `weight` [in x taps, out]."""
        cube = weight.reshape(-1, taps, weight.shape[1])
        ins, outs = self._ranks(*cube.shape)
        left, right = _basis(cube, 0, ins), _basis(cube, 2, outs)
        for _ in range(self.rounds):
            left = _basis(np.tensordot(cube, right, axes=(2, 0)), 0, ins)
            right = _basis(np.tensordot(cube, left, axes=(0, 0)), 1, outs)
        core = np.einsum("ito,ir,os->rts", cube, left, right, optimize=True)
        return Tucker2(left, core, right.T)

    def _ranks(self, ins: int, taps: int, outs: int) -> tuple[int, int]:
        """Return the largest inner widths, the same share of both sides, that keep to `params`."""
        best = (1, 1)
        for step in range(1, max(ins, outs) + 1):
            share = step / max(ins, outs)
            a, b = max(1, int(share * ins)), max(1, int(share * outs))
            if ins * a + a * taps * b + b * outs <= self.params * ins * taps * outs:
                best = (a, b)
        return best


def _basis(cube: Floats, axis: int, rank: int) -> Floats:
    """Return the strongest directions [size, rank] along one axis."""
    unfolded = np.moveaxis(cube, axis, 0).reshape(cube.shape[axis], -1)
    return np.linalg.svd(unfolded, full_matrices=False)[0][:, :rank]
