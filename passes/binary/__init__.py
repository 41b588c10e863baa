"""Binary layers: made out of dense ones, trained, and handed to operators that multiply signs by signs."""

from graphrewrite.passes.binary.binarize import BinarizeConv
from graphrewrite.passes.binary.lower import LowerBinaryConv
from graphrewrite.passes.binary.train import TrainBinary

__all__ = ["BinarizeConv", "LowerBinaryConv", "TrainBinary"]
