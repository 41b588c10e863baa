"""A convolution over blocks of 1 input x N outputs."""
