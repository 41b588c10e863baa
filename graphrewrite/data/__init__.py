"""Batches of inputs, and statistics of named tensors collected in one sweep."""

from graphrewrite.data.source import ArraySource, DataSource

__all__ = ["ArraySource", "DataSource"]
