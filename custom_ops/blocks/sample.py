"""Random weights with whole blocks of zeros, for cases, tests and measurements."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def sparse_weight(
    rng: np.random.Generator, shape: Sequence[int], width: int, sparsity: float
) -> npt.NDArray[np.float32]:
    """Return a weight [outputs, inputs, *kernel] that keeps each block of `width` outputs with chance 1 - sparsity.

    Weights are scaled so that outputs of layers fed with unit variance have about unit variance.
    """
    groups, columns = -(-shape[0] // width), math.prod(shape[1:])
    kept = rng.random((groups, columns)) >= sparsity
    spread = 1.0 / math.sqrt(max(1.0, columns * (1.0 - sparsity)))
    values = rng.standard_normal((shape[0], columns)) * spread * np.repeat(kept, width, axis=0)[: shape[0]]
    return values.astype(np.float32).reshape(tuple(shape))
