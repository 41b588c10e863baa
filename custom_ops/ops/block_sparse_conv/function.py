"""BlockSparseConv in standard operators: blocks scattered into a dense weight, then Conv.

Everything before Conv hangs on constants alone: onnxruntime computes it once, when it loads the model.
"""

from graphrewrite.custom_ops.blocks.function import ACTIVATION, MATRIX

BODY = f"""
{{
    inputs = Constant <value_int: int = @in_channels> ()
    outputs = Constant <value_int: int = @out_channels> ()
    kernel = Constant <value_ints: ints = @kernel_shape> ()
    tap_count = ReduceProd <keepdims = 0> (kernel)
    single = Constant <value = int64[1] {{1}}> ()
    taps = Mul (tap_count, single)
{MATRIX}
    turned = Transpose <perm = [0, 2, 1]> (matrix)
    some_inputs = Reshape (inputs, one)
    whole_shape = Concat <axis = 0> (whole_outputs, some_inputs, kernel)
    whole = Reshape (turned, whole_shape)
    some_outputs = Reshape (outputs, one)
    weight = Slice (whole, first, some_outputs, first)
    z = Conv <kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads,
        dilations: ints = @dilations> (x, weight, bias)
{ACTIVATION}
}}
"""
