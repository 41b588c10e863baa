"""LowBitMatMul in standard operators.

All that depends on constants only is folded by onnxruntime when a session starts, so that what runs is the rounding of
the activations and one dense MatMul. A row that holds a number that is not finite comes out as NaN altogether.
"""

BODY = """
{
    minus_one = Constant <value = int64[1] {-1}> ()
    nought = Constant <value = int64[1] {0}> ()
    one = Constant <value = int64[1] {1}> ()
    fourth = Constant <value = int64[1] {4}> ()
    block = Constant <value = int64[1] {32}> ()
    two = Constant <value = float {2.0}> ()
    bits = Constant <value_int: int = @bits> ()
    group = Constant <value_int: int = @group> ()
    offset = Constant <value_int: int = @offset> ()
    depth = Constant <value_int: int = @depth> ()

    columns = Reshape (depth, one)
    group_size = Reshape (group, one)
    shape_of_packed = Shape (packed)
    blocks = Slice (shape_of_packed, nought, one, nought)
    rows = Mul (blocks, block)
    shape_of_gain = Shape (gain)

    first_bit = Constant <value_int = 0> ()
    end_bit = Constant <value_int = 8> ()
    low_bits = Range (first_bit, end_bit, bits)
    low_bits_float = Cast <to = 1> (low_bits)
    powers = Pow (two, low_bits_float)
    bits_float = Cast <to = 1> (bits)
    base = Pow (two, bits_float)
    bytes = Cast <to = 1> (packed)
    bytes_apart = Unsqueeze (bytes, fourth)
    divided = Div (bytes_apart, powers)
    shifted = Floor (divided)
    higher = Div (shifted, base)
    higher_whole = Floor (higher)
    higher_part = Mul (higher_whole, base)
    codes = Sub (shifted, higher_part)
    doubled = Mul (codes, two)
    offset_float = Cast <to = 1> (offset)
    levels = Sub (doubled, offset_float)
    levels_turned = Transpose <perm = [0, 2, 1, 4, 3]> (levels)
    rows_by_inputs = Concat <axis = 0> (rows, minus_one)
    levels_flat = Reshape (levels_turned, rows_by_inputs)
    levels_used = Slice (levels_flat, nought, columns, one)

    scales_float = Cast <to = 1> (scales)
    scales_turned = Transpose <perm = [0, 2, 1]> (scales_float)
    rows_by_groups = Concat <axis = 0> (rows, minus_one, one)
    scales_apart = Reshape (scales_turned, rows_by_groups)
    one_group = Concat <axis = 0> (one, one, group_size)
    scales_spread = Expand (scales_apart, one_group)
    scales_flat = Reshape (scales_spread, rows_by_inputs)
    scales_used = Slice (scales_flat, nought, columns, one)

    scaled = Mul (levels_used, scales_used)
    outputs_only = Slice (scaled, nought, shape_of_gain, nought)
    gain_column = Unsqueeze (gain, one)
    weight = Mul (outputs_only, gain_column)
    weight_turned = Transpose <perm = [1, 0]> (weight)

    most_levels = Constant <value = float {127.0}> ()
    least = Constant <value = float {1e-30}> ()
    size = Abs (x)
    largest, where_largest = TopK <axis = -1> (size, one)
    range = Max (largest, least)
    per_level = Div (range, most_levels)
    levels_per = Div (most_levels, range)
    in_levels = Mul (x, levels_per)
    rounded = Round (in_levels)
    product = MatMul (rounded, weight_turned)
    in_units = Mul (product, per_level)
    y = Add (in_units, bias)
}
"""
