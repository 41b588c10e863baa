"""BinaryConvFromBits, sign by sign."""

from collections.abc import Sequence

import numpy as np

from graphrewrite.custom_ops.binary.pack import Words, unpack
from graphrewrite.custom_ops.binary.reference import Floats, conv_sums, numbers, signs


def reference(
    x: Words,
    weight: Words,
    scale: Floats,
    bias: Floats,
    *,
    channels: int,
    group: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> Floats:
    """Return numbers [N, O, OH, OW] for `x` [N, H, W, words]."""
    sums = conv_sums(
        signs(np.moveaxis(unpack(x, channels), -1, 1)),
        weight,
        channels=channels,
        group=group,
        strides=strides,
        pads=pads,
        dilations=dilations,
    )
    return numbers(sums, scale, bias, 1)
