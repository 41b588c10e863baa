"""BinaryConv, sign by sign."""

from collections.abc import Sequence

from graphrewrite.custom_ops.binary.pack import Words
from graphrewrite.custom_ops.binary.reference import Floats, conv_sums, numbers, signs


def reference(
    x: Floats,
    x_threshold: Floats,
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
    """Return numbers [N, O, OH, OW] for `x` [N, C, H, W]."""
    sums = conv_sums(
        signs(x >= x_threshold[:, None, None]),
        weight,
        channels=channels,
        group=group,
        strides=strides,
        pads=pads,
        dilations=dilations,
    )
    return numbers(sums, scale, bias, 1)
