"""The parts of the function bodies in front of the transforms and behind them.

An empty batch gets a row of its own, which the last step drops: old operator sets cannot write the shape of nothing.
"""

# Reads `x`, `before`, `after`, `size` (int64 [1]) and the constants `zero`, `one` and `minus_one` (int64 [1]). Makes
# `padded` [rows, size], `rows` (int64 [1]), `out` (int64 [1], how many outputs) and, for the end, the sizes of all axes
# but the last: `lead`, and `some_lead` with the row of nothing.
ROWS_IN = """
    shape = Shape (x)
    lead = Slice (shape, zero, minus_one)
    count = ReduceProd <keepdims = 1> (lead)
    is_empty = Equal (count, zero)
    dummy = Cast <to = 7> (is_empty)
    rows = Add (count, dummy)
    some_lead = Where (is_empty, one, lead)
    width = Shape (before)
    out = Shape (after)
    scaled = Mul (x, before)
    flat_shape = Concat <axis = 0> (minus_one, width)
    flat = Reshape (scaled, flat_shape)
    missing = Sub (size, width)
    pads = Concat <axis = 0> (zero, zero, dummy, missing)
    padded = Pad (flat, pads)
"""

# Reads `kept` [rows, ..., out], `after`, `bias` and what ROWS_IN makes; makes `y`.
ROWS_OUT = """
    scaled_out = Mul (kept, after)
    shifted_out = Add (scaled_out, bias)
    some_shape = Concat <axis = 0> (some_lead, out)
    some = Reshape (shifted_out, some_shape)
    out_shape = Concat <axis = 0> (lead, out)
    y = Expand (some, out_shape)
"""
