"""BlockSparseMatMul by its dense weight, in float64."""

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.blocks import Blocks, activate, unpack

Floats = npt.NDArray[np.float32]


def reference(
    x: Floats,
    blocks: Floats,
    positions: npt.NDArray[np.int32],
    bias: Floats,
    *,
    in_features: int,
    out_features: int,
    activation: int,
    low: float,
    high: float,
) -> Floats:
    """Multiply `x` [..., in] with the weight that the blocks make and return [..., out]."""
    weight = unpack(Blocks(blocks, positions), out_features, in_features).astype(np.float64)
    sums = x.astype(np.float64) @ weight.T + bias
    return activate(sums, activation, low, high).astype(np.float32)
