"""Zeros in weights: patterns that make them, and nodes that skip them."""
