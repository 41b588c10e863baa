"""Integers in the place of floats, found on samples and written as quantisers that integer kernels take up."""

from graphrewrite.passes.quant.equalize import EqualizeChannels
from graphrewrite.passes.quant.insert_qdq import InsertQdq
from graphrewrite.passes.quant.mixed import MixedPrecision
from graphrewrite.passes.quant.open_bounds import OpenBounds
from graphrewrite.passes.quant.smooth import SmoothQuant

__all__ = ["EqualizeChannels", "InsertQdq", "MixedPrecision", "OpenBounds", "SmoothQuant"]
