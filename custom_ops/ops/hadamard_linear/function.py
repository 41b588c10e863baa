"""HadamardLinear in standard operators: a transform is three products with blocks of at most 64.

A transform of a * b * c is one of a over the slowest digit of the position, one of b and one of c. Each product turns
the digits once round, so that after three of them every digit has been transformed and is back in its place. Every
block is the corner of the matrix of 64, whose sign is the parity of the bits that row and column share; all that
depends on constants only, and runtimes that fold constants keep nothing but the products.

An empty batch gets a row of its own, which the last step drops: old operator sets cannot write the shape of nothing.
"""

BODY = """
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

    shape = Shape (x)
    lead = Slice (shape, zero, minus_one)
    count = ReduceProd <keepdims = 1> (lead)
    is_empty = Equal (count, zero)
    dummy = Cast <to = 7> (is_empty)
    rows = Add (count, dummy)
    some_lead = Where (is_empty, one, lead)
    width = Shape (before)
    out = Shape (after)
    scaled = Mul (x, before)
    flat_shape = Concat <axis = 0> (minus_one, width)
    flat = Reshape (scaled, flat_shape)
    missing = Sub (size, width)
    pads = Concat <axis = 0> (zero, zero, dummy, missing)
    padded = Pad (flat, pads)

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

    a_digits = Reshape (padded, a_shape)
    a_last = Transpose <perm = [0, 2, 1]> (a_digits)
    a_rows = Reshape (a_last, a_flat)
    a_done = MatMul (a_rows, a_signs)
    b_digits = Reshape (a_done, b_shape)
    b_last = Transpose <perm = [0, 2, 1]> (b_digits)
    b_rows = Reshape (b_last, b_flat)
    b_done = MatMul (b_rows, b_signs)
    c_digits = Reshape (b_done, c_shape)
    c_last = Transpose <perm = [0, 2, 1]> (c_digits)
    c_rows = Reshape (c_last, c_flat)
    c_done = MatMul (c_rows, c_signs)
    coefficients = Reshape (c_done, whole_shape)

    number = Cast <to = 1> (size)
    middle_scaled = Div (middle, number)
    chosen = Gather <axis = 1> (coefficients, permutation)
    mixed = Mul (chosen, middle_scaled)

    a_digits2 = Reshape (mixed, a_shape)
    a_last2 = Transpose <perm = [0, 2, 1]> (a_digits2)
    a_rows2 = Reshape (a_last2, a_flat)
    a_done2 = MatMul (a_rows2, a_signs)
    b_digits2 = Reshape (a_done2, b_shape)
    b_last2 = Transpose <perm = [0, 2, 1]> (b_digits2)
    b_rows2 = Reshape (b_last2, b_flat)
    b_done2 = MatMul (b_rows2, b_signs)
    c_digits2 = Reshape (b_done2, c_shape)
    c_last2 = Transpose <perm = [0, 2, 1]> (c_digits2)
    c_rows2 = Reshape (c_last2, c_flat)
    c_done2 = MatMul (c_rows2, c_signs)
    signal = Reshape (c_done2, whole_shape)

    kept = Slice (signal, zero, out, one)
    scaled_out = Mul (kept, after)
    shifted_out = Add (scaled_out, bias)
    some_shape = Concat <axis = 0> (some_lead, out)
    some = Reshape (shifted_out, some_shape)
    out_shape = Concat <axis = 0> (lead, out)
    y = Expand (some, out_shape)
}
"""
