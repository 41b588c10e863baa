"""BinaryConvBits: a binary convolution, bits in, bits out."""
