"""How a consumer makes up for channels it no longer reads: one way per file, found by name."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from graphrewrite.data import Accumulator
from graphrewrite.registry import Registry

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@runtime_checkable
class Reconstruction(Protocol):
    """An estimate of removed channels from kept ones: dead = T kept + t0."""

    def statistic(self, axis: int) -> Callable[[], Accumulator]:
        """Return what builds the accumulator to feed with the activation that carries the channels on `axis`."""
        ...

    def estimate(self, statistic: object, alive: Mask) -> tuple[Floats | None, Floats]:
        """Return (T [dead, kept] or None for zero, t0 [dead]) from the accumulator's result."""
        ...


reconstructions: Registry[Reconstruction] = Registry("reconstruction", package=__name__, of=Reconstruction)

__all__ = ["Reconstruction", "reconstructions"]
