"""BinaryMatMulFromBits: a binary matrix product, bits in, floats out."""
