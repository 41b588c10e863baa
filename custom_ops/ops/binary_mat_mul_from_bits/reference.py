"""BinaryMatMulFromBits, sign by sign."""

from graphrewrite.custom_ops.binary.pack import Words, unpack
from graphrewrite.custom_ops.binary.reference import Floats, mat_mul_sums, numbers, signs


def reference(
    x: Words,
    weight: Words,
    scale: Floats,
    bias: Floats,
    *,
    channels: int,
) -> Floats:
    """Return numbers [..., O] for `x` [..., words]."""
    sums = mat_mul_sums(
        signs(unpack(x, channels)),
        weight,
        channels=channels,
    )
    return numbers(sums, scale, bias, -1)
