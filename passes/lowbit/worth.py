"""Whether few bits make a product faster, from speeds that were measured on this machine."""

from graphrewrite.cost.speeds import Speeds, Work, gain

# Below this many weights a product costs about what calling an operator costs.
SMALLEST = 1 << 14


def why_slower(speeds: Speeds | None, bits: int, work: Work) -> str | None:
    """Return why a product is better left in floats, None where it is worth it."""
    if work.inputs * work.outputs < SMALLEST:
        return f"its weight has {work.inputs * work.outputs} numbers, fewer than {SMALLEST}"
    found = gain(speeds, ("MatMul", work), (f"LowBitMatMul/{bits}", work))
    if not isinstance(found, str):
        return None
    return f"{found}; {work.positions} rows of {work.inputs} x {work.outputs} stay in floats"
