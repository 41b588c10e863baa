"""Layers with weights of few bits."""

from graphrewrite.passes.lowbit.lower import LowerLowBit

__all__ = ["LowerLowBit"]
