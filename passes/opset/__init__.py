"""Models in another version of the standard operators."""

from graphrewrite.passes.opset.convert import ConvertOpset, converted
from graphrewrite.passes.opset.raising import RaiseOpset

__all__ = ["ConvertOpset", "RaiseOpset", "converted"]
