"""PackSigns in standard operators: powers of two, added up. -0.0 counts as 0, NaN as negative."""

BODY = """
{
    zero = Constant <value = float {0.0}> ()
    minus_one = Constant <value = int64[1] {-1}> ()
    first = Constant <value = int64[1] {0}> ()
    second = Constant <value = int64[1] {1}> ()
    third = Constant <value = int64[1] {2}> ()
    last = Constant <value = int64[1] {9223372036854775807}> ()
    axes = Constant <value = int64[1] {0}> ()
    word = Constant <value = int64[1] {32}> ()
    up = Constant <value = int64[1] {31}> ()

    shape = Shape (x)
    batch = Slice (shape, first, second, axes)
    channels = Slice (shape, second, third, axes)
    spatial = Slice (shape, third, last, axes)
    positions = ReduceProd <keepdims = 1> (spatial)
    padded = Add (channels, up)
    words = Div (padded, word)
    room = Mul (words, word)
    missing = Sub (room, channels)

    flat_shape = Concat <axis = 0> (batch, channels, positions)
    flat = Reshape (x, flat_shape)
    is_set = GreaterOrEqual (flat, zero)
    bits_wide = Cast <to = 7> (is_set)
    channels_last = Transpose <perm = [0, 2, 1]> (bits_wide)
    none = Constant <value = int64[5] {0, 0, 0, 0, 0}> ()
    pads = Concat <axis = 0> (none, missing)
    nothing = Constant <value = int64 {0}> ()
    filled = Pad (channels_last, pads, nothing)
    grouped_shape = Concat <axis = 0> (batch, positions, words, word)
    grouped = Reshape (filled, grouped_shape)
    powers = Constant <value = int64[32] {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768,
        65536, 131072, 262144, 524288, 1048576, 2097152, 4194304, 8388608, 16777216, 33554432, 67108864, 134217728,
        268435456, 536870912, 1073741824, 2147483648}> ()
    weighed = Mul (grouped, powers)
    summed = ReduceSum <keepdims = 0> (weighed, minus_one)
    numbers = Cast <to = 12> (summed)
    out_shape = Concat <axis = 0> (batch, spatial, words)
    bits = Reshape (numbers, out_shape)
}
"""
