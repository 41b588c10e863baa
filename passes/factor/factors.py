"""What a weight is factored into, and how factorizations say what they do."""

from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.passes.factor.writer import Writer

Floats: TypeAlias = npt.NDArray[np.float64]


@runtime_checkable
class Factors(Protocol):
    """Something that stands for a weight of [in, out] with fewer numbers."""

    @property
    def parameters(self) -> int:
        """How many numbers it holds (indices do not count)."""
        ...

    def expand(self) -> Floats:
        """Return the weight [in, out] it stands for."""
        ...

    def write(self, writer: Writer, x: gs.Tensor, bias: Floats | None) -> gs.Variable:
        """Write `x` [..., in] times the weight plus the bias in standard operators; return the result [..., out]."""
        ...


@runtime_checkable
class Factorization(Protocol):
    """A way to factor weights. Implementations are frozen dataclasses whose fields are the configuration.

    `convolutions` tells whether a convolution can be written with its factors; those need a `LowRank`.
    """

    convolutions: ClassVar[bool]

    def factor(self, weight: Floats, rng: np.random.Generator) -> Factors:
        """Return the factors of `weight` [in, out].

        Raises:
            InvalidConfig: the configuration does not fit a weight of this shape.
        """
        ...
