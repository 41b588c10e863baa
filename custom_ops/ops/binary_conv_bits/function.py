"""BinaryConvBits in standard operators."""

from graphrewrite.custom_ops.binary.function import conv_body

BODY = conv_body(bits_in=True, bits_out=True)
