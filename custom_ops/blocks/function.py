"""Parts that the function bodies of the BlockSparse operators are put together from.

`MATRIX` reads `inputs`, `outputs` (int64 scalars), `taps` (int64 [1], positions of the kernel), `blocks` and
`positions`, and makes `matrix` [groups, inputs * taps, width], `columns` (int64 [1], inputs * taps) and `whole_outputs`
(int64 [1], groups * width).

`ACTIVATION` reads `z` and the attributes `activation`, `low`, `high`, and makes `y`. Its conditions are constants,
which runtimes resolve when they load the model: what is left is one plain activation, or none.
"""

MATRIX = """
    flat = Constant <value = int64[1] {-1}> ()
    one = Constant <value = int64[1] {1}> ()
    first = Constant <value = int64[1] {0}> ()
    second = Constant <value = int64[1] {1}> ()
    third = Constant <value = int64[1] {2}> ()
    blocks_shape = Shape (blocks)
    width = Slice (blocks_shape, second, third)
    outputs_and_width = Add (outputs, width)
    outputs_up = Sub (outputs_and_width, one)
    groups = Div (outputs_up, width)
    columns = Mul (inputs, taps)
    whole_outputs = Mul (groups, width)
    block_count = Mul (groups, columns)
    flat_shape = Concat <axis = 0> (block_count, width)
    empty = ConstantOfShape <value = float[1] {0.0}> (flat_shape)
    wide_positions = Cast <to = 7> (positions)
    index_shape = Constant <value = int64[2] {-1, 1}> ()
    index = Reshape (wide_positions, index_shape)
    scattered = ScatterND (empty, index, blocks)
    matrix_shape = Concat <axis = 0> (groups, columns, width)
    matrix = Reshape (scattered, matrix_shape)
"""

ACTIVATION = """
    activation_number = Constant <value_int: int = @activation> ()
    clip_low = Constant <value_float: float = @low> ()
    clip_high = Constant <value_float: float = @high> ()
    number_1 = Constant <value = int64 {1}> ()
    number_2 = Constant <value = int64 {2}> ()
    number_3 = Constant <value = int64 {3}> ()
    is_relu = Equal (activation_number, number_1)
    is_clip = Equal (activation_number, number_2)
    is_silu = Equal (activation_number, number_3)
    is_gate = GreaterOrEqual (activation_number, number_3)
    y = If (is_gate) <
        then_branch = gates () => (float[] gated) {
            gated = If (is_silu) <
                then_branch = silu () => (float[] silu_y) {
                    silu_gate = Sigmoid (z)
                    silu_y = Mul (z, silu_gate)
                },
                else_branch = hardswish () => (float[] hardswish_y) {
                    hardswish_gate = HardSigmoid <alpha = 0.16666667, beta = 0.5> (z)
                    hardswish_y = Mul (z, hardswish_gate)
                }
            >
        },
        else_branch = limits () => (float[] limited) {
            limited = If (is_relu) <
                then_branch = relu () => (float[] relu_y) { relu_y = Relu (z) },
                else_branch = wider () => (float[] wider_y) {
                    wider_y = If (is_clip) <
                        then_branch = clip () => (float[] clip_y) { clip_y = Clip (z, clip_low, clip_high) },
                        else_branch = none () => (float[] none_y) { none_y = Identity (z) }
                    >
                }
            >
        }
    >
"""
