"""Min-max: everything that was seen gets a code."""

from dataclasses import dataclass
from typing import cast

from graphrewrite.data.accumulators import Extremes, MinMax
from graphrewrite.passes.quant.calibrators import calibrators
from graphrewrite.passes.quant.grid import Grid, Span
from graphrewrite.passes.quant.spans import finite


@calibrators.register("min_max")
@dataclass(frozen=True)
class MinMaxRange:
    """From the smallest to the largest value seen: nothing is clipped, one outlier makes all steps coarse."""

    def accumulator(self) -> MinMax:
        """Return the running extremes of the whole tensor."""
        return MinMax()

    def span(self, result: object, grid: Grid) -> Span:
        """Return both extremes as they are."""
        seen = cast(Extremes, result)
        return finite(float(seen.low[0]), float(seen.high[0]))
