"""Whether few bits make a product faster, from speeds that were measured on this machine."""

from graphrewrite.cost.speeds import Speeds, Work

# Below this many weights a product costs about what calling an operator costs.
SMALLEST = 1 << 14


def why_slower(speeds: Speeds | None, bits: int, work: Work) -> str | None:
    """Return why a product is better left in floats, None where it is not, or where nobody knows."""
    if work.inputs * work.outputs < SMALLEST:
        return f"its weight has {work.inputs * work.outputs} numbers, fewer than {SMALLEST}"
    if speeds is None:
        return None
    floats, few = speeds.seconds("MatMul", work), speeds.seconds(f"LowBitMatMul/{bits}", work)
    if floats is None or few is None or few < floats:
        return None
    return (
        f"{work.positions} rows of {work.inputs} x {work.outputs} would take {few * 1e6:.0f} us "
        f"instead of {floats * 1e6:.0f} ({speeds.isa})"
    )
