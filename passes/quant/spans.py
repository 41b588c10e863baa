"""Spans found from a histogram: what is left of it between two ends, and ends to choose from."""

from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from graphrewrite.data.accumulators import Counts
from graphrewrite.errors import InvalidData
from graphrewrite.passes.quant.grid import Floats, Span

_PARTS = 96  # of the seen span that are tried, in equal distances from all of it down to a twelfth
_LEAST = 1 / 12


class Bins(NamedTuple):
    """A histogram of one tensor: how many values lie about each centre, and the span of all that was seen."""

    counts: npt.NDArray[np.int64]
    centres: Floats
    span: Span


def bins_of(result: object) -> Bins:
    """Return the bins of a histogram without channels, from the first with values to the last."""
    seen = cast(Counts, result)
    counts = seen.counts[0]
    used = np.flatnonzero(counts)
    first, last = int(used[0]), int(used[-1])
    centres = (seen.edges[:-1] + seen.edges[1:]) / 2
    span = Span(float(seen.edges[first]), float(seen.edges[last + 1]))
    return Bins(counts[first : last + 1], centres[first : last + 1], span)


def shrunk(span: Span) -> Iterator[Span]:
    """Yield a span and smaller ones, both ends drawn towards zero alike; an end beyond zero is moved to it first."""
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    for part in np.linspace(1.0, _LEAST, _PARTS):
        yield Span(low * float(part), high * float(part))


def finite(low: float, high: float) -> Span:
    """Return a span.

    Raises:
        InvalidData: an end is no finite number.
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidData(
            f"the values of a tensor reach from {low} to {high}; expected finite numbers to calibrate on; check the "
            "data, or choose a calibrator with a histogram, which leaves them out"
        )
    return Span(low, high)
