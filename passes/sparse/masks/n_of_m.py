"""N:M sparsity: of every M neighbouring inputs the N largest weights stay (Zhou et al. 2021; 2:4 on GPUs)."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.sparse.masks import Floats, Kept, masks


@masks.register("n_of_m")
@dataclass(frozen=True)
class NOfM:
    """Keep `n` of every `m` weights along the inputs, at each output and tap; a shorter rest keeps at most n.

    The pattern sets the sparsity, 1 - n/m; the one asked for must agree, or be 0, which leaves it to the pattern.
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m:
            raise InvalidConfig(f"n_of_m is {self.n}:{self.m}; expected 1 <= n < m, such as 2:4; change it")

    @classmethod
    def of(cls, argument: str) -> "NOfM":
        """Read `n:m`."""
        if not argument:
            return cls()
        n, _, m = argument.partition(":")
        if not n.isdigit() or not m.isdigit():
            raise InvalidConfig(f"n_of_m was given {argument!r}; expected two numbers such as 2:4; change it")
        return cls(int(n), int(m))

    @property
    def rows(self) -> int:
        """No blocks of outputs."""
        return 1

    def keep(self, weight: Floats, sparsity: float) -> Kept:
        """Rank the weights of every stretch of m inputs."""
        if sparsity and abs(sparsity - (1 - self.n / self.m)) > 1e-6:
            raise InvalidConfig(
                f"a sparsity of {sparsity:g} was asked of the pattern {self.n}:{self.m}, which gives "
                f"{1 - self.n / self.m:g}; leave the sparsity out, or choose another pattern"
            )
        outputs, inputs, taps = weight.shape
        stretches = -(-inputs // self.m)
        padded = np.full(
            (outputs, stretches * self.m, taps), -1.0
        )  # below any |w|: what is not there is never kept
        padded[:, :inputs] = np.abs(weight)
        split = padded.reshape(outputs, stretches, self.m, taps)
        rank = np.argsort(np.argsort(-split, axis=2, kind="stable"), axis=2, kind="stable")
        return np.asarray((rank < self.n).reshape(outputs, -1, taps)[:, :inputs])
