"""BinaryMatMulBits, sign by sign."""

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.binary.pack import Words, unpack
from graphrewrite.custom_ops.binary.reference import bits, mat_mul_sums, signs


def reference(
    x: Words,
    weight: Words,
    threshold: npt.NDArray[np.int32],
    *,
    channels: int,
) -> Words:
    """Return bits [..., ceil(O / 32)] for `x` [..., words]."""
    sums = mat_mul_sums(
        signs(unpack(x, channels)),
        weight,
        channels=channels,
    )
    return bits(sums, threshold, -1)
