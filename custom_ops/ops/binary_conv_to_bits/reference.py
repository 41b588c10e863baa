"""BinaryConvToBits, sign by sign."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.binary.pack import Words
from graphrewrite.custom_ops.binary.reference import Floats, bits, conv_sums, signs


def reference(
    x: Floats,
    x_threshold: Floats,
    weight: Words,
    threshold: npt.NDArray[np.int32],
    *,
    channels: int,
    group: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> Words:
    """Return bits [N, OH, OW, ceil(O / 32)] for `x` [N, C, H, W]."""
    sums = conv_sums(
        signs(x >= x_threshold[:, None, None]),
        weight,
        channels=channels,
        group=group,
        strides=strides,
        pads=pads,
        dilations=dilations,
    )
    return bits(sums, threshold, 1)
