"""Percentile: a small part of the values at the ends is clipped, so that outliers cost no steps."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.data.accumulators import Histogram
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.quant.calibrators import calibrators
from graphrewrite.passes.quant.grid import Grid, Span
from graphrewrite.passes.quant.spans import bins_of


@calibrators.register("percentile")
@dataclass(frozen=True)
class Percentile:
    """The span that holds `percent` of the values; half of the others lie below it, half above.

    Args:
        percent: of the values that are kept.
        bins: of the histogram, which is as exact as they are narrow.
    """

    percent: float = 99.99
    bins: int = 2048

    def __post_init__(self) -> None:
        if not 50 < self.percent <= 100:
            raise InvalidConfig(f"Percentile.percent is {self.percent!r}; expected a number in (50, 100]")

    def accumulator(self) -> Histogram:
        """Return a histogram of the whole tensor."""
        return Histogram(self.bins)

    def span(self, result: object, grid: Grid) -> Span:
        """Return the outer edges of the bins that the two percentiles fall into."""
        bins = bins_of(result)
        width = (bins.span.high - bins.span.low) / len(bins.counts)
        upto = np.cumsum(bins.counts)
        out = (100 - self.percent) / 200 * upto[-1]
        first = int(np.searchsorted(upto, out, side="right"))
        last = int(np.searchsorted(upto, upto[-1] - out, side="left"))
        return Span(bins.span.low + first * width, bins.span.low + (last + 1) * width)
