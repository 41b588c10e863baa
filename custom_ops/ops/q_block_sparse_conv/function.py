"""QBlockSparseConv in standard operators: blocks scattered into a dense weight, then QLinearConv.

Everything before QLinearConv hangs on constants alone: onnxruntime computes it once, when it loads the model.
Runtimes may round sum * scale otherwise than the kernel does: they differ by one step of y at most.
"""

from graphrewrite.custom_ops.quads.function import DENSE

BODY = f"""
{{
    inputs = Constant <value_int: int = @in_channels> ()
    outputs = Constant <value_int: int = @out_channels> ()
    kernel = Constant <value_ints: ints = @kernel_shape> ()
{DENSE}
    no_offset = Constant <value = int8 {{0}}> ()
    y = QLinearConv <kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads,
        dilations: ints = @dilations>
        (x, x_scale, x_zero_point, weight, w_scale, no_offset, y_scale, y_zero_point, bias)
}}
"""
