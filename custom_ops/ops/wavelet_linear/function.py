"""WaveletLinear in standard operators: every level is one convolution.

The levels are two loops. The first carries the low half and collects high halves and lengths, by convolutions of
stride 2; the second starts with the last low half, takes high halves from the end, and convolves over zeros between
the values.
"""

from graphrewrite.custom_ops.diagonals.function import ROWS_IN, ROWS_OUT

BODY = (
    """
{
    zero = Constant <value = int64[1] {0}> ()
    one = Constant <value = int64[1] {1}> ()
    two = Constant <value = int64[1] {2}> ()
    minus_one = Constant <value = int64[1] {-1}> ()
    lowest = Constant <value = int64[1] {-9223372036854775807}> ()
    size_number = Constant <value_int: int = @size> ()
    levels = Constant <value_int: int = @levels> ()
    yes = Constant <value = bool {1}> ()
    size = Unsqueeze (size_number, zero)

    filters_shape = Shape (analysis)
    taps = Slice (filters_shape, one, two)
    left = Sub (taps, two)
    right = Sub (taps, one)
    backwards = Slice (analysis, minus_one, lowest, one, minus_one)
    split_kernel = Unsqueeze (backwards, one)
    synthesis_backwards = Slice (synthesis, minus_one, lowest, one, minus_one)
    join_kernel = Unsqueeze (synthesis_backwards, zero)
    gap = Constant <value = int64[8] {0, 0, 0, 0, 0, 0, 0, 1}> ()
"""
    + ROWS_IN
    + """    signal = Unsqueeze (padded, one)
    three = Constant <value = int64[1] {3}> ()
    halo = Concat <axis = 0> (zero, zero, left, zero, zero, right)
    none_shape = Concat <axis = 0> (rows, one, zero)
    none = ConstantOfShape (none_shape)
    no_lengths = Slice (zero, one, one)

    low, highs, lengths = Loop (levels, yes, signal, none, no_lengths) <body = split
        (int64 step, bool going, float[R, C, W] low_in, float[R, C, H] highs_in, int64[D] lengths_in)
        => (bool going_out, float[R, C, V] low_out, float[R, C, G] highs_out, int64[E] lengths_out)
    {
        going_out = Identity (going)
        low_shape = Shape (low_in)
        length = Slice (low_shape, two, three)
        lengths_out = Concat <axis = 0> (lengths_in, length)
        wide = Pad (low_in, halo)
        halves = Conv <strides = [2]> (wide, split_kernel)
        low_out = Slice (halves, zero, one, one)
        high = Slice (halves, one, two, one)
        highs_out = Concat <axis = 2> (highs_in, high)
    }>

    coefficients = Concat <axis = 2> (highs, low)
    chosen = Gather <axis = 2> (coefficients, permutation)
    mixed = Mul (chosen, middle)
    highs_shape = Shape (highs)
    high_count = Slice (highs_shape, two, three)
    all_count = Shape (middle)
    coarsest = Slice (mixed, high_count, all_count, two)
    last = Sub (levels, one)

    back, end = Loop (levels, yes, coarsest, high_count) <body = join
        (int64 step, bool going, float[R, C, W] low_in, int64[1] stop)
        => (bool going_out, float[R, C, V] low_out, int64[1] start)
    {
        going_out = Identity (going)
        level = Sub (last, step)
        length = Gather <axis = 0> (lengths, level)
        with_taps = Add (length, right)
        half = Div (with_taps, two)
        start = Sub (stop, half)
        high = Slice (mixed, start, stop, two)
        halves = Concat <axis = 1> (low_in, high)
        apart = Unsqueeze (halves, minus_one)
        spread = Pad (apart, gap)
        halves_shape = Shape (halves)
        half_length = Slice (halves_shape, two, three)
        spread_length = Mul (half_length, two)
        spread_shape = Concat <axis = 0> (rows, two, spread_length)
        flat_spread = Reshape (spread, spread_shape)
        whole = Conv <pads = [1, 0]> (flat_spread, join_kernel)
        low_out = Slice (whole, zero, length, two)
    }>

    kept = Slice (back, zero, out, two)
"""
    + ROWS_OUT
    + "}\n"
)
