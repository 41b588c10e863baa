"""QBlockSparseMatMul in standard operators: rows quantised, blocks scattered into a dense weight, MatMulInteger.

What makes the weight hangs on constants alone: onnxruntime computes it once, when it loads the model.
"""

from graphrewrite.custom_ops.blocks.function import ACTIVATION
from graphrewrite.custom_ops.quads.function import DENSE

BODY = f"""
{{
    inputs = Constant <value_int: int = @in_features> ()
    outputs = Constant <value_int: int = @out_features> ()
    kernel = Constant <value = int64[1] {{1}}> ()
{DENSE}
    third = Constant <value = int64[1] {{2}}> ()
    index_first = Constant <value = int64[1] {{0}}> ()
    flat_weight = Squeeze (weight, third)
    turned = Transpose <perm = [1, 0]> (flat_weight)
    wide_weight = Cast <to = 6> (turned)
    weight_sums = ReduceSum <keepdims = 0> (wide_weight, index_first)

    nothing = Constant <value = float {{0.0}}> ()
    unit = Constant <value = float {{1.0}}> ()
    levels = Constant <value = float {{255.0}}> ()
    smallest = Constant <value = float {{1.17549435e-38}}> ()
    negative = Neg (x)
    largest, largest_at = TopK <axis = -1> (x, quad_one)
    lowest, lowest_at = TopK <axis = -1> (negative, quad_one)
    above = Max (largest, nothing)
    below = Max (lowest, nothing)
    range = Add (above, below)
    level = Div (range, levels)
    is_wide = GreaterOrEqual (level, smallest)
    scale = Where (is_wide, level, unit)
    below_levels = Div (below, scale)
    zero_point = Round (below_levels)
    x_levels = Div (x, scale)
    x_rounded = Round (x_levels)
    x_shifted = Add (x_rounded, zero_point)
    x_cut = Clip (x_shifted, nothing, levels)
    x_bytes = Cast <to = 2> (x_cut)

    product = MatMulInteger (x_bytes, turned)
    zero_points = Cast <to = 6> (zero_point)
    excess = Mul (zero_points, weight_sums)
    sums = Sub (product, excess)
    float_sums = Cast <to = 1> (sums)
    step = Mul (scale, w_scale)
    scaled = Mul (float_sums, step)
    z = Add (scaled, bias)
{ACTIVATION}
}}
"""
