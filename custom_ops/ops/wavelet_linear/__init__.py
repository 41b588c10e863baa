"""A linear layer as a product of diagonals, wavelet transforms and a permutation."""
