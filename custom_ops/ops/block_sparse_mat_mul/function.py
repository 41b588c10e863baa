"""BlockSparseMatMul in standard operators: blocks scattered into a dense weight, then MatMul.

Everything before MatMul hangs on constants alone: onnxruntime computes it once, when it loads the model.
"""

from graphrewrite.custom_ops.blocks.function import ACTIVATION, MATRIX

BODY = f"""
{{
    inputs = Constant <value_int: int = @in_features> ()
    outputs = Constant <value_int: int = @out_features> ()
    taps = Constant <value = int64[1] {{1}}> ()
{MATRIX}
    turned = Transpose <perm = [1, 0, 2]> (matrix)
    whole_shape = Concat <axis = 0> (columns, whole_outputs)
    whole = Reshape (turned, whole_shape)
    some_outputs = Reshape (outputs, one)
    weight = Slice (whole, first, some_outputs, second)
    product = MatMul (x, weight)
    z = Add (product, bias)
{ACTIVATION}
}}
"""
