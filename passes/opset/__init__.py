"""Models in another version of the standard operators."""

from graphrewrite.passes.opset.convert import ConvertOpset, converted

__all__ = ["ConvertOpset", "converted"]
