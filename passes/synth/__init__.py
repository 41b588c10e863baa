"""Samples made from what a model knows of its data: a file of `synthesisers` per method."""
