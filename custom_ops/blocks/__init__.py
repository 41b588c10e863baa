"""Float weights of which most blocks of 1 input x N outputs are zero: the file format of the BlockSparse operators."""

from graphrewrite.custom_ops.blocks.activation import ACTIVATIONS, activate
from graphrewrite.custom_ops.blocks.pack import WIDTHS, Blocks, density, pack, unpack

__all__ = ["ACTIVATIONS", "WIDTHS", "Blocks", "activate", "density", "pack", "unpack"]
