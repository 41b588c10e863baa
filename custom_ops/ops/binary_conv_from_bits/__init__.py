"""BinaryConvFromBits: a binary convolution, bits in, floats out."""
