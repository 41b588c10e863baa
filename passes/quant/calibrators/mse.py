"""MSE: the span whose codes are nearest to the values, clipping and rounding taken together."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.data.accumulators import Histogram
from graphrewrite.passes.quant.calibrators import calibrators
from graphrewrite.passes.quant.grid import Grid, Span
from graphrewrite.passes.quant.spans import bins_of, shrunk


@calibrators.register("mse")
@dataclass(frozen=True)
class MeanSquaredError:
    """Of the seen span and 95 smaller ones, the one with the least squared error on the histogram.

    Args:
        bins: of the histogram; each bin counts as if all its values lay at its centre.
    """

    bins: int = 2048

    def accumulator(self) -> Histogram:
        """Return a histogram of the whole tensor."""
        return Histogram(self.bins)

    def span(self, result: object, grid: Grid) -> Span:
        """Return the best of the spans; of equal ones the widest."""
        bins = bins_of(result)

        def error(span: Span) -> float:
            away = grid.round(bins.centres, grid.scale(span)) - bins.centres
            return float(np.dot(bins.counts, away * away))

        return min(shrunk(bins.span), key=error)
