"""BinaryMatMul: a binary matrix product, floats in, floats out."""
