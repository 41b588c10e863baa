"""Random int8 weights with whole blocks of zeros, for cases, tests and measurements."""

import math
from collections.abc import Sequence

import numpy as np

from graphrewrite.custom_ops.quads.pack import INPUTS, OUTPUTS, Int8s


def sparse_weight(rng: np.random.Generator, shape: Sequence[int], sparsity: float) -> Int8s:
    """Return a weight [outputs, inputs, *kernel] that keeps each block of 16 x 4 with chance 1 - sparsity.

    Values take the whole range of int8, -128 included.
    """
    outputs, inputs, taps = shape[0], shape[1], math.prod(shape[2:])
    kept = rng.random((-(-outputs // OUTPUTS), -(-inputs // INPUTS), taps)) >= sparsity
    mask = kept.repeat(OUTPUTS, axis=0).repeat(INPUTS, axis=1)[:outputs, :inputs]
    values = rng.integers(-128, 128, (outputs, inputs, taps))
    return (values * mask).astype(np.int8).reshape(tuple(shape))
