"""Inputs on which all faces of BinaryMatMulFromBits must agree."""

from collections.abc import Iterator

from graphrewrite.custom_ops.binary.sample import mat_mul_cases
from graphrewrite.custom_ops.spec import Case


def cases() -> Iterator[Case]:
    """Yield the cases of the family in this form."""
    return mat_mul_cases(bits_in=True, bits_out=False)
