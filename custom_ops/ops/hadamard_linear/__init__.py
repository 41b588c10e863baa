"""A linear layer as a product of diagonals, Walsh-Hadamard transforms and a permutation."""
