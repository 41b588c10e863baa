"""What the binary layers share: signs packed into words, function bodies, numpy and torch forms, cases, kernels.

A layer multiplies signs by signs. Activations are +1 where they reach a threshold (or arrive as bits), weights are
bits; sums are whole numbers. What leaves is either a number, sum * scale + bias, or a bit, sum >= threshold.
"""
