"""Moving average: the extremes of a usual batch rather than those of the strangest one."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from graphrewrite.data.accumulators import Extremes, MinMax
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array
from graphrewrite.passes.quant.calibrators import calibrators
from graphrewrite.passes.quant.grid import Grid, Span
from graphrewrite.passes.quant.spans import finite


class Averaged:
    """Extremes that move a part of the way towards those of each batch."""

    def __init__(self, momentum: float) -> None:
        self._momentum = momentum
        self._seen: Extremes | None = None

    def update(self, array: Array) -> None:
        """Move towards the extremes of one batch; the first sets them."""
        batch = MinMax()
        batch.update(array)
        now, before = batch.result(), self._seen
        if before is None:
            self._seen = now
            return
        keep, take = self._momentum, 1 - self._momentum
        self._seen = Extremes(keep * before.low + take * now.low, keep * before.high + take * now.high)

    def result(self) -> Extremes:
        """Return the averaged extremes.

        Raises:
            InvalidData: nothing was taken in.
        """
        return MinMax().result() if self._seen is None else self._seen


@calibrators.register("moving_average")
@dataclass(frozen=True)
class MovingAverage:
    """Exponential average of the extremes of each batch (Jacob et al. 2018, section 3.1).

    Args:
        momentum: share of the average that each batch leaves as it was.
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise InvalidConfig(f"MovingAverage.momentum is {self.momentum!r}; expected a number in [0, 1)")

    def accumulator(self) -> Averaged:
        """Return averaged extremes of the whole tensor."""
        return Averaged(self.momentum)

    def span(self, result: object, grid: Grid) -> Span:
        """Return both averages."""
        seen = cast(Extremes, result)
        return finite(float(np.min(seen.low)), float(np.max(seen.high)))
