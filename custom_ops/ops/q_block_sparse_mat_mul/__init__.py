"""QBlockSparseMatMul: floats times int8 weights of which whole blocks are zero."""
