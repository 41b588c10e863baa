"""Weights of which most blocks of 16 outputs x 4 inputs are zero: the file format that the QBlockSparse ops share."""

from graphrewrite.custom_ops.quads.pack import INPUTS, OUTPUTS, Quads, density, pack, unpack

__all__ = ["INPUTS", "OUTPUTS", "Quads", "density", "pack", "unpack"]
