"""Entropy: the span whose codes keep the distribution of the values (Migacz 2017, 8-bit inference with TensorRT)."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.data.accumulators import Histogram
from graphrewrite.passes.quant.calibrators import calibrators
from graphrewrite.passes.quant.grid import Floats, Grid, Span
from graphrewrite.passes.quant.spans import Bins, bins_of, shrunk


@calibrators.register("entropy")
@dataclass(frozen=True)
class Entropy:
    """Of the seen span and 95 smaller ones, the one with the least Kullback-Leibler divergence.

    The values clipped at an end count as values of the last bin there. The codes' distribution gives each code's share
    to the bins that it stands for, those without values left out; what few values differ by chance is taken off. The
    bin that holds zero is left out: zero is on every grid, and after a Relu most values are there. Ends on both sides
    of zero are drawn in alike.

    Args:
        bins: of the histogram.
    """

    bins: int = 2048

    def accumulator(self) -> Histogram:
        """Return a histogram of the whole tensor."""
        return Histogram(self.bins)

    def span(self, result: object, grid: Grid) -> Span:
        """Return the best of the spans; of equal ones the widest."""
        bins = _without_zero(bins_of(result))
        return min(shrunk(bins.span), key=lambda span: _divergence(bins, span, grid))


def _without_zero(bins: Bins) -> Bins:
    width = (bins.span.high - bins.span.low) / len(bins.counts)
    return bins._replace(counts=np.where(np.abs(bins.centres) <= width / 2, 0, bins.counts))


def _divergence(bins: Bins, span: Span, grid: Grid) -> float:
    scale = grid.scale(span)
    inside = np.flatnonzero((bins.centres >= span.low) & (bins.centres <= span.high))
    if not len(inside):
        return np.inf
    counts = bins.counts[inside].astype(np.float64)
    codes = np.rint(bins.centres[inside] / scale.step).astype(np.int64)
    codes -= codes[0]
    there = counts > 0
    kept, bins_each = np.bincount(codes, counts), np.bincount(codes, there)
    shared: Floats = np.where(there, kept[codes] / np.maximum(bins_each[codes], 1), 0.0)
    counts[0] += bins.counts[: inside[0]].sum()
    counts[-1] += bins.counts[inside[-1] + 1 :].sum()
    if not shared.any():
        return 0.0 if not bins.counts.any() else np.inf
    there = counts > 0
    p, q = counts[there] / counts.sum(), shared[there] / shared.sum()
    # Bins that one code stands for differ by chance alone, which a wide span would be blamed for (Miller 1955).
    chance = (np.count_nonzero(shared) - np.count_nonzero(kept)) / (2 * counts.sum())
    # An end whose own bin was empty takes the clipped values: no code's share is there, and nothing may divide by it.
    return float(np.sum(p * np.log(p / np.maximum(q, np.finfo(np.float64).eps))) - chance)
