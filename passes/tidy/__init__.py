"""Cleaning a graph without changing what it computes."""

from graphrewrite.passes.tidy.tidy import Tidy

__all__ = ["Tidy"]
