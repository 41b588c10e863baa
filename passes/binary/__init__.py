"""Binary layers: making them out of dense ones, and handing them to operators that multiply signs by signs."""

from graphrewrite.passes.binary.binarize import BinarizeConv
from graphrewrite.passes.binary.lower import LowerBinaryConv

__all__ = ["BinarizeConv", "LowerBinaryConv"]
