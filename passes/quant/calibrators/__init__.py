"""Which span of a tensor's values gets codes: one calibrator per file, found by name."""

from typing import Protocol

from graphrewrite.data.accumulators import Accumulator
from graphrewrite.passes.quant.grid import Grid, Span
from graphrewrite.registry import Registry


class Calibrator(Protocol):
    """Looks at a tensor batch by batch, in memory that does not grow, and settles on a span at the end."""

    def accumulator(self) -> Accumulator:
        """Return what a tensor's values are fed to."""
        ...

    def span(self, result: object, grid: Grid) -> Span:
        """Return the span that `grid` is to hold, from what the accumulator's `result()` gave.

        Raises:
            InvalidData: the values hold a NaN or an infinity where the span hangs on them.
        """
        ...


calibrators: Registry[Calibrator] = Registry("calibrator", package=__name__, of=Calibrator)

__all__ = ["Calibrator", "calibrators"]
