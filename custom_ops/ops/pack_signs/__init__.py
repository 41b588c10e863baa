"""The signs of a tensor as bits, channels last."""
