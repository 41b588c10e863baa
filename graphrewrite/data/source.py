"""Where batches come from: anything that yields dicts of arrays keyed by the model's input names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import InvalidData

Arrays: TypeAlias = Mapping[str, npt.NDArray[np.generic]]


@runtime_checkable
class DataSource(Protocol):
    """Batches of inputs by name, in an order that depends on the seed only."""

    def batches(self, size: int, seed: int = 0) -> Iterator[Arrays]:
        """Yield dicts input name -> array with at most `size` samples on axis 0."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    @property
    def labels(self) -> npt.NDArray[np.generic] | None:
        """Labels of all samples in file order, when there are any."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """Samples held in memory: input name -> array with the samples on axis 0."""

    arrays: Arrays
    labels: npt.NDArray[np.generic] | None = None

    def __post_init__(self) -> None:
        sizes = {name: np.shape(array)[0] if np.ndim(array) else 0 for name, array in self.arrays.items()}
        if not sizes or min(sizes.values()) == 0 or len(set(sizes.values())) != 1:
            raise InvalidData(
                f"the arrays have {sizes or 'no'} samples; every input needs the same number, at least one, on axis 0; "
                "check what was saved"
            )
        if self.labels is not None and len(self.labels) != len(self):
            raise InvalidData(
                f"{len(self.labels)} labels for {len(self)} samples; expected one each; check the data"
            )

    def __len__(self) -> int:
        return int(np.shape(next(iter(self.arrays.values())))[0])

    def batches(self, size: int, seed: int = 0) -> Iterator[Arrays]:
        """Yield consecutive slices in the stored order."""
        for start in range(0, len(self), size):
            yield {name: np.asarray(array[start : start + size]) for name, array in self.arrays.items()}
