"""Whether rounding leaves more of a model once factors were moved: tried on samples, one half seen, one half judged."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from math import log10
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphrewrite.data import DataSource
from graphrewrite.data.source import Arrays
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.passes.quant.insert_qdq import InsertQdq
from graphrewrite.passes.quant.judge import Judge
from graphrewrite.passes.quant.rounders.nearest import Nearest
from graphrewrite.pipeline import Context

_SAMPLES = 512  # that are judged at most


@dataclass(frozen=True)
class Half:
    """The first or the second half of the batches of a source; all of them where there is only one."""

    whole: DataSource
    is_first: bool

    def _batches(self, size: int) -> tuple[int, int]:
        count = -(-len(self.whole) // size)
        return (0, max(1, count // 2)) if self.is_first else (count // 2, count)

    def batches(self, size: int, seed: int = 0) -> Iterator[Arrays]:
        """Yield those batches of the whole that are in this half."""
        yield from islice(self.whole.batches(size, seed), *self._batches(size))

    def __len__(self) -> int:
        first = -(-len(self.whole) // 2)
        return first if self.is_first else len(self.whole) - first or first

    @property
    def labels(self) -> npt.NDArray[np.generic] | None:
        """Return none: nobody asks which of them are in this half."""
        return None


class Trial(NamedTuple):
    """Rounds what passes made of a model as `step` will, and tells how far the outputs are from those before."""

    before: Model
    step: InsertQdq
    context: Context

    @classmethod
    def of(cls, model: Model, step: InsertQdq, context: Context) -> "Trial":
        """Return a trial that rounds to the nearest and keeps no file."""
        return cls(model.clone(), replace(step, rounder=Nearest(), cache=""), context)

    def noise(self, model: Model) -> float:
        """Return the share of noise in the outputs on the half of the samples that ranges were not found on.

        Raises:
            InvalidConfig: there are no samples.
        """
        data = self.context.data
        if data is None:
            raise InvalidConfig(
                "what rounding leaves of a model is tried on samples, and there is no data; expected "
                "Context(data=...); a few hundred samples without labels will do"
            )
        seen = replace(self.context, data=Half(data, True))
        rounded = self.step.run(model.clone(), seen).model
        return Judge(self.before, Half(data, False), self.context, self.step.batch).noise(rounded, _SAMPLES)


def nearer(before: float, after: float) -> float:
    """Return by how many dB the second noise is below the first; 0 where there is none of either."""
    if before == after:
        return 0.0
    return 10 * log10(max(before, 1e-30) / max(after, 1e-30))
