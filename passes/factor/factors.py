"""What a weight is factored into, and how factorizations say what they do."""

from typing import ClassVar, Protocol, TypeAlias, TypedDict, cast, runtime_checkable

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
class ConvolutionFactors(Protocol):
    """Something that stands for the weight of a convolution without groups, [channels in x kernel, channels out]."""

    @property
    def parameters(self) -> int:
        """How many numbers it holds."""
        ...

    @property
    def rank(self) -> int:
        """The width between factors, the largest where there are several."""
        ...

    def expand(self) -> Floats:
        """Return the weight it stands for."""
        ...

    def write_convolution(
        self, writer: Writer, x: gs.Tensor, bias: Floats | None, kernel: tuple[int, ...], like: gs.Node
    ) -> gs.Variable:
        """Write convolutions that do together what `like`, with this kernel, would do; return the result."""
        ...


class Places(TypedDict, total=False):
    """The attributes that say where a convolution's kernel is put; those that a node does not have are missing."""

    auto_pad: str
    dilations: list[int]
    pads: list[int]
    strides: list[int]


def places(like: gs.Node) -> Places:
    """Return these attributes of a convolution."""
    return cast(Places, {key: like.attrs[key] for key in Places.__optional_keys__ if key in like.attrs})


@runtime_checkable
class KernelFactorization(Protocol):
    """A factorization that treats the taps of a convolution as an axis of their own."""

    def factor_kernels(self, weight: Floats, taps: int, rng: np.random.Generator) -> ConvolutionFactors:
        """Return the factors of `weight` [channels in x taps, channels out]."""
        ...


@runtime_checkable
class Factorization(Protocol):
    """A way to factor weights. Implementations are frozen dataclasses whose fields are the configuration.

    `convolutions` tells whether a convolution can be written with its factors; those are `ConvolutionFactors`.
    """

    convolutions: ClassVar[bool]

    def factor(self, weight: Floats, rng: np.random.Generator) -> Factors:
        """Return the factors of `weight` [in, out].

        Raises:
            InvalidConfig: the configuration does not fit a weight of this shape.
        """
        ...
