"""BinaryConv: a binary convolution, floats in, floats out."""
