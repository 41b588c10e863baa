"""BinaryMatMul, sign by sign."""

from graphrewrite.custom_ops.binary.pack import Words
from graphrewrite.custom_ops.binary.reference import Floats, mat_mul_sums, numbers, signs


def reference(
    x: Floats,
    x_threshold: Floats,
    weight: Words,
    scale: Floats,
    bias: Floats,
    *,
    channels: int,
) -> Floats:
    """Return numbers [..., O] for `x` [..., C]."""
    sums = mat_mul_sums(
        signs(x >= x_threshold),
        weight,
        channels=channels,
    )
    return numbers(sums, scale, bias, -1)
