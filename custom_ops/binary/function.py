"""The bodies of binary layers in standard operators: weights are unpacked (which folds away), signs are +1 and -1.

Bits are cut out of words by two shifts: there is no bitwise "and" before operator set 18.
"""

_CONSTANTS = """
    plus = Constant <value = float {1.0}> ()
    minus = Constant <value = float {-1.0}> ()
    top = Constant <value = uint32 {31}> ()
    places = Constant <value = uint32[32] {31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13,
        12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}> ()
    zero = Constant <value = int64[1] {0}> ()
    one = Constant <value = int64[1] {1}> ()
    two = Constant <value = int64[1] {2}> ()
    word = Constant <value = int64[1] {32}> ()
    up = Constant <value = int64[1] {31}> ()
    last = Constant <value = int64[1] {-1}> ()
    end = Constant <value = int64[1] {9223372036854775807}> ()
    planes = Constant <value = int64[2] {1, 2}> ()
    channel_number = Constant <value_int: int = @channels> ()
    channels_1 = Unsqueeze (channel_number, zero)
"""

_X_FLOATS = """
    x_is_plus = GreaterOrEqual (x, {x_threshold})
    x_signs = Where (x_is_plus, plus, minus)
"""

_X_BITS = """
    x_shape = Shape (x)
    x_leading = Slice (x_shape, zero, last)
    x_words = Slice (x_shape, last, end)
    x_room = Mul (x_words, word)
    x_wide_shape = Concat <axis = 0> (x_leading, x_room)
    x_each = Unsqueeze (x, last)
    x_high = BitShift <direction = "LEFT"> (x_each, places)
    x_low = BitShift <direction = "RIGHT"> (x_high, top)
    x_wide = Reshape (x_low, x_wide_shape)
    x_live = Slice (x_wide, zero, channels_1, last)
    x_is_plus = Cast <to = 9> (x_live)
    {signs} = Where (x_is_plus, plus, minus)
"""

_WEIGHT = """
    weight_each = Unsqueeze (weight, last)
    weight_high = BitShift <direction = "LEFT"> (weight_each, places)
    weight_low = BitShift <direction = "RIGHT"> (weight_high, top)
    weight_wide_shape = Constant <value = int64[{rank}] {shape}> ()
    weight_wide = Reshape (weight_low, weight_wide_shape)
    weight_live = Slice (weight_wide, zero, {channels}, last)
    weight_is_plus = Cast <to = 9> (weight_live)
    weight_signs = Where (weight_is_plus, plus, minus)
"""

_CONV = """
    kernel = Transpose <perm = [0, 3, 1, 2]> (weight_signs)
    sum = Conv <group: int = @group, strides: ints = @strides, pads: ints = @pads, dilations: ints = @dilations>
        (x_signs, kernel)
"""

_MAT_MUL = """
    matrix = Transpose <perm = [1, 0]> (weight_signs)
    sum = MatMul (x_signs, matrix)
"""

_NUMBERS = """
    scaled = Mul (sum, {scale})
    y = Add (scaled, {bias})
"""

# Bits become powers of two, which are added up; along the last axis of whatever rank. onnxruntime adds up nothing to
# nothing without dropping the axis, hence the last step.
_BITS = """
    threshold_number = Cast <to = 1> (threshold)
    {fit}
    reached = GreaterOrEqual (sum, {threshold})
    set = Cast <to = 7> (reached)
    {turn}
    y_shape = Shape (set_last)
    y_leading = Slice (y_shape, zero, last)
    y_outputs = Slice (y_shape, last, end)
    y_padded = Add (y_outputs, up)
    y_words = Div (y_padded, word)
    y_room = Mul (y_words, word)
    y_missing = Sub (y_room, y_outputs)
    y_rank = Shape (y_shape)
    y_sides = Mul (y_rank, two)
    y_others = Sub (y_sides, one)
    y_none = ConstantOfShape <value = int64[1] {{0}}> (y_others)
    y_pads = Concat <axis = 0> (y_none, y_missing)
    nothing = Constant <value = int64 {{0}}> ()
    filled = Pad (set_last, y_pads, nothing)
    grouped_shape = Concat <axis = 0> (y_leading, y_words, word)
    grouped = Reshape (filled, grouped_shape)
    powers = Constant <value = int64[32] {{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768,
        65536, 131072, 262144, 524288, 1048576, 2097152, 4194304, 8388608, 16777216, 33554432, 67108864, 134217728,
        268435456, 536870912, 1073741824, 2147483648}}> ()
    weighed = Mul (grouped, powers)
    summed = ReduceSum <keepdims = 0> (weighed, last)
    numbers = Cast <to = 12> (summed)
    packed_shape = Concat <axis = 0> (y_leading, y_words)
    y = Reshape (numbers, packed_shape)
"""


def conv_body(*, bits_in: bool, bits_out: bool) -> str:
    """Return the body of a binary convolution that reads and gives floats or bits."""
    if bits_in:
        x = (
            _X_BITS.format(signs="x_signs_last")
            + "    x_signs = Transpose <perm = [0, 3, 1, 2]> (x_signs_last)\n"
        )
    else:
        x = "    x_threshold_planes = Unsqueeze (x_threshold, planes)\n" + _X_FLOATS.format(
            x_threshold="x_threshold_planes"
        )
    group = """
    group_number = Constant <value_int: int = @group> ()
    group_channels = Div (channels_1, group_number)
"""
    weight = group + _WEIGHT.format(rank=4, shape="{0, 0, 0, -1}", channels="group_channels")
    if bits_out:
        out = _BITS.format(
            fit="threshold_planes = Unsqueeze (threshold_number, planes)",
            threshold="threshold_planes",
            turn="set_last = Transpose <perm = [0, 2, 3, 1]> (set)",
        )
    else:
        out = """
    scale_planes = Unsqueeze (scale, planes)
    bias_planes = Unsqueeze (bias, planes)
""" + _NUMBERS.format(scale="scale_planes", bias="bias_planes")
    return _whole(x, weight, _CONV, out)


def mat_mul_body(*, bits_in: bool, bits_out: bool) -> str:
    """Return the body of a binary matrix product that reads and gives floats or bits."""
    x = _X_BITS.format(signs="x_signs") if bits_in else _X_FLOATS.format(x_threshold="x_threshold")
    weight = _WEIGHT.format(rank=2, shape="{0, -1}", channels="channels_1")
    if bits_out:
        out = _BITS.format(fit="", threshold="threshold_number", turn="set_last = Identity (set)")
    else:
        out = _NUMBERS.format(scale="scale", bias="bias")
    return _whole(x, weight, _MAT_MUL, out)


def _whole(*parts: str) -> str:
    return "{" + _CONSTANTS + "".join(parts) + "}"
