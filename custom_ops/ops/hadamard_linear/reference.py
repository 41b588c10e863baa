"""HadamardLinear, with the matrix written out."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def reference(
    x: Floats,
    before: Floats,
    permutation: npt.NDArray[np.int64],
    middle: Floats,
    after: Floats,
    bias: Floats,
) -> Floats:
    """Return the layer's output [..., out], computed in float64."""
    size = len(middle)
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    matrix /= np.sqrt(size)
    padded = np.zeros((*x.shape[:-1], size))
    padded[..., : len(before)] = x.astype(np.float64) * before
    mixed = (padded @ matrix)[..., permutation] * middle
    return ((mixed @ matrix)[..., : len(after)] * after + bias).astype(np.float32)
