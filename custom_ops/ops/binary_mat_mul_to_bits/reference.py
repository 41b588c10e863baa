"""BinaryMatMulToBits, sign by sign."""

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.binary.pack import Words
from graphrewrite.custom_ops.binary.reference import Floats, bits, mat_mul_sums, signs


def reference(
    x: Floats,
    x_threshold: Floats,
    weight: Words,
    threshold: npt.NDArray[np.int32],
    *,
    channels: int,
) -> Words:
    """Return bits [..., ceil(O / 32)] for `x` [..., C]."""
    sums = mat_mul_sums(
        signs(x >= x_threshold),
        weight,
        channels=channels,
    )
    return bits(sums, threshold, -1)
