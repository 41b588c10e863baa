"""Which weights stay: one pattern per file, found by name. The command line writes `name` or `name:argument`."""

from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import InvalidConfig
from graphrewrite.registry import Registry

Floats: TypeAlias = npt.NDArray[np.float64]
Kept: TypeAlias = npt.NDArray[np.bool_]


@runtime_checkable
class Mask(Protocol):
    """A pattern of zeros. Implementations are frozen dataclasses whose fields are the configuration."""

    @classmethod
    def of(cls, argument: str) -> "Mask":
        """Read what stands behind the name on the command line; "" is the default."""
        ...

    @property
    def rows(self) -> int:
        """How many neighbouring outputs share a block; 1 where it does not matter which are neighbours."""
        ...

    def keep(self, weight: Floats, sparsity: float) -> Kept:
        """Return which numbers of `weight` [outputs, inputs, taps] stay when the share `sparsity` goes."""
        ...


masks: Registry[Mask] = Registry("mask", package=__name__, of=Mask)


def named(text: str) -> Mask:
    """Return the mask that `name` or `name:argument` stands for.

    Raises:
        UnknownNameError: no such mask.
        InvalidConfig: the argument does not fit it.
    """
    name, _, argument = text.partition(":")
    masks.find(name)
    return masks.find(name).of(argument)  # type: ignore[attr-defined, no-any-return]


def whole_number(argument: str, default: int, what: str) -> int:
    """Read an argument that is one number.

    Raises:
        InvalidConfig: it is none, or below 1.
    """
    if not argument:
        return default
    if not argument.isdigit() or int(argument) < 1:
        raise InvalidConfig(f"{what} is {argument!r}; expected a whole number of at least 1; change it")
    return int(argument)


def largest(scores: Floats, sparsity: float) -> Kept:
    """Return a mask, of the shape of `scores`, that drops the share `sparsity` (rounded down) with the lowest scores.

    Equal scores go in the order of their positions, so that the same weight always gives the same mask.
    """
    gone = int(scores.size * sparsity + 1e-9)
    kept = np.ones(scores.size, dtype=bool)
    kept[np.argsort(scores.reshape(-1), kind="stable")[:gone]] = False
    return kept.reshape(scores.shape)


def block_means(weight: Floats, outputs: int, inputs: int) -> Floats:
    """Return the mean |w| of blocks of `weight` [outputs, inputs, taps] as [blocks of outputs, of inputs, taps].

    Blocks at the edges that are not full count what they hold, so that they are neither favoured nor the first to go.
    """
    shape = -(-weight.shape[0] // outputs), outputs, -(-weight.shape[1] // inputs), inputs, weight.shape[2]
    sums, counts = (np.zeros((shape[0] * outputs, shape[2] * inputs, shape[4])) for _ in range(2))
    sums[: weight.shape[0], : weight.shape[1]] = np.abs(weight)
    counts[: weight.shape[0], : weight.shape[1]] = 1
    means: Floats = sums.reshape(shape).sum(axis=(1, 3)) / counts.reshape(shape).sum(axis=(1, 3))
    return means


__all__ = ["Floats", "Kept", "Mask", "block_means", "largest", "masks", "named", "whole_number"]
