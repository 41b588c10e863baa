"""HadamardLinear in standard operators: a transform is three products with blocks of at most 64.

A transform of a * b * c is one of a over the slowest digit of the position, one of b and one of c. Each product turns
the digits once round, so that after three of them every digit has been transformed and is back in its place. Every
block is the corner of the matrix of 64, whose sign is the parity of the bits that row and column share; all that
depends on constants only, and runtimes that fold constants keep nothing but the products.
"""

from graphrewrite.custom_ops.diagonals.function import ROWS_IN, ROWS_OUT


def _transform(x: str, y: str, suffix: str) -> str:
    """Return the three products that transform `x` into `y`."""
    lines = []
    for digit in "abc":
        lines += [
            f"{digit}_digits{suffix} = Reshape ({x}, {digit}_shape)",
            f"{digit}_last{suffix} = Transpose <perm = [0, 2, 1]> ({digit}_digits{suffix})",
            f"{digit}_rows{suffix} = Reshape ({digit}_last{suffix}, {digit}_flat)",
            f"{digit}_done{suffix} = MatMul ({digit}_rows{suffix}, {digit}_signs)",
        ]
        x = f"{digit}_done{suffix}"
    return "".join(f"    {line}\n" for line in [*lines, f"{y} = Reshape ({x}, whole_shape)"])


BODY = (
    """
{
    zero = Constant <value = int64[1] {0}> ()
    one = Constant <value = int64[1] {1}> ()
    minus_one = Constant <value = int64[1] {-1}> ()
    block = Constant <value = int64[1] {64}> ()

    numbers = Constant <value = float[64, 1] {
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
        28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53,
        54, 55, 56, 57, 58, 59, 60, 61, 62, 63}> ()
    powers = Constant <value = float[6] {1, 2, 4, 8, 16, 32}> ()
    two = Constant <value = float {2}> ()
    unit = Constant <value = float {1}> ()
    shifted = Div (numbers, powers)
    whole = Floor (shifted)
    bits = Mod <fmod = 1> (whole, two)
    bits_turned = Transpose (bits)
    shared = MatMul (bits, bits_turned)
    parity = Mod <fmod = 1> (shared, two)
    twice = Mul (parity, two)
    signs = Sub (unit, twice)

    size = Shape (middle)
    a = Min (size, block)
    rest = Div (size, a)
    b = Min (rest, block)
    c = Div (rest, b)
    both = Constant <value = int64[2] {0, 1}> ()
    origin = Constant <value = int64[2] {0, 0}> ()
    a_corner = Concat <axis = 0> (a, a)
    b_corner = Concat <axis = 0> (b, b)
    c_corner = Concat <axis = 0> (c, c)
    a_signs = Slice (signs, origin, a_corner, both)
    b_signs = Slice (signs, origin, b_corner, both)
    c_signs = Slice (signs, origin, c_corner, both)
    behind_a = Div (size, a)
    behind_b = Div (size, b)
    behind_c = Div (size, c)
"""
    + ROWS_IN
    + """
    whole_shape = Concat <axis = 0> (rows, size)
    a_shape = Concat <axis = 0> (rows, a, behind_a)
    b_shape = Concat <axis = 0> (rows, b, behind_b)
    c_shape = Concat <axis = 0> (rows, c, behind_c)
    a_count = Mul (rows, behind_a)
    b_count = Mul (rows, behind_b)
    c_count = Mul (rows, behind_c)
    a_flat = Concat <axis = 0> (a_count, a)
    b_flat = Concat <axis = 0> (b_count, b)
    c_flat = Concat <axis = 0> (c_count, c)

"""
    + _transform("padded", "coefficients", "")
    + """
    number = Cast <to = 1> (size)
    middle_scaled = Div (middle, number)
    chosen = Gather <axis = 1> (coefficients, permutation)
    mixed = Mul (chosen, middle_scaled)

"""
    + _transform("mixed", "signal", "2")
    + """
    kept = Slice (signal, zero, out, one)
"""
    + ROWS_OUT
    + "}\n"
)
