"""Weights rounded by themselves: filed in few bits, or as bytes that multiply activations rounded on every run."""

from graphrewrite.passes.weights.cells import DynamicQuantizeCells
from graphrewrite.passes.weights.dynamic import DynamicQuantize
from graphrewrite.passes.weights.float8_qdq import Float8Qdq
from graphrewrite.passes.weights.weight_only import WeightOnly

__all__ = ["DynamicQuantize", "DynamicQuantizeCells", "Float8Qdq", "WeightOnly"]
