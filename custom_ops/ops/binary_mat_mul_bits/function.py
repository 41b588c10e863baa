"""BinaryMatMulBits in standard operators."""

from graphrewrite.custom_ops.binary.function import mat_mul_body

BODY = mat_mul_body(bits_in=True, bits_out=True)
