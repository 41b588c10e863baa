"""BinaryMatMulToBits: a binary matrix product, floats in, bits out."""
