"""BinaryConvToBits: a binary convolution, floats in, bits out."""
