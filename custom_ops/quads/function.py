"""The part of the function bodies that makes a dense weight of blocks.

It reads `inputs`, `outputs` (int64 scalars), `kernel` (int64 [dims of the kernel]), `blocks` and `positions`, and makes
`weight` [outputs, inputs, *kernel].
"""

DENSE = """
    quad_inputs = Constant <value = int64[1] {4}> ()
    quad_outputs = Constant <value = int64[1] {16}> ()
    quad_inputs_up = Constant <value = int64[1] {3}> ()
    quad_outputs_up = Constant <value = int64[1] {15}> ()
    inputs_more = Add (inputs, quad_inputs_up)
    outputs_more = Add (outputs, quad_outputs_up)
    quads = Div (inputs_more, quad_inputs)
    groups = Div (outputs_more, quad_outputs)
    quad_product = ReduceProd <keepdims = 0> (kernel)
    quad_one = Constant <value = int64[1] {1}> ()
    taps = Mul (quad_product, quad_one)
    group_blocks = Mul (quads, taps)
    all_blocks = Mul (groups, group_blocks)
    flat_shape = Concat <axis = 0> (all_blocks, quad_outputs, quad_inputs)
    empty_weight = ConstantOfShape <value = int8[1] {0}> (flat_shape)
    wide_positions = Cast <to = 7> (positions)
    index_shape = Constant <value = int64[2] {-1, 1}> ()
    block_index = Reshape (wide_positions, index_shape)
    scattered = ScatterND (empty_weight, block_index, blocks)
    split_shape = Concat <axis = 0> (groups, quads, taps, quad_outputs, quad_inputs)
    split_weight = Reshape (scattered, split_shape)
    turned_weight = Transpose <perm = [0, 3, 1, 4, 2]> (split_weight)
    whole_outputs = Mul (groups, quad_outputs)
    whole_inputs = Mul (quads, quad_inputs)
    whole_shape = Concat <axis = 0> (whole_outputs, whole_inputs, kernel)
    whole_weight = Reshape (turned_weight, whole_shape)
    cut_from = Constant <value = int64[2] {0, 0}> ()
    cut_axes = Constant <value = int64[2] {0, 1}> ()
    quad_flat = Constant <value = int64[1] {-1}> ()
    some_outputs = Reshape (outputs, quad_flat)
    some_inputs = Reshape (inputs, quad_flat)
    cut_to = Concat <axis = 0> (some_outputs, some_inputs)
    weight = Slice (whole_weight, cut_from, cut_to, cut_axes)
"""
