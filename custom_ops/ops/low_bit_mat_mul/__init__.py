"""A linear layer with weights of 1, 2 or 4 bits and activations of 8."""
