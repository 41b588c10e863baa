"""BinaryMatMulBits: a binary matrix product, bits in, bits out."""
