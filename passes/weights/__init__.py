"""Weights filed in few bits: what multiplies with them stays in floats, or in whatever the kernel makes of them."""

from graphrewrite.passes.weights.weight_only import WeightOnly

__all__ = ["WeightOnly"]
