"""Batches of inputs, and statistics of named tensors collected in one sweep."""

from graphrewrite.data.accumulators import Accumulator, Gram, Histogram, MinMax, Moments, Rank
from graphrewrite.data.load import load
from graphrewrite.data.source import ArraySource, DataSource
from graphrewrite.data.stats import collect

__all__ = [
    "Accumulator",
    "ArraySource",
    "DataSource",
    "Gram",
    "Histogram",
    "MinMax",
    "Moments",
    "Rank",
    "collect",
    "load",
]
