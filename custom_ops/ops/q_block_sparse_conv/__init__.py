"""QBlockSparseConv: bytes convolved with int8 weights of which whole blocks are zero."""
