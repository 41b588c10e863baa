"""Functions of sizes beyond + and *: minimum, comparison, choice, broadcast, rounding; and what valid runs require."""

from collections.abc import Iterable, Sequence
from fractions import Fraction

from graphrewrite.ir.symbols import (
    Dim,
    Real,
    Sym,
    exact_div,
    floor_div,
    low_of,
    on_samples,
    sample_of,
    table_of,
)


def trunc_div(a: Dim, b: Dim) -> Dim:
    """Return a / b rounded towards zero: what ONNX `Div` does with integers."""
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    exact = exact_div(a, b)
    if exact is not None:
        return exact
    if low_of(b) >= 1:
        if low_of(a) >= 0:
            return floor_div(a, b)
        if isinstance(a, Sym) and a.high is not None and a.high <= 0:
            return -floor_div(-a, b)
    sample = on_samples(lambda x, y: int(trunc_div(x, y)) if y else None, a, b)  # type: ignore[arg-type]
    return table_of(a, b).make("truncated", (a, b), sample)


def ceil_div(a: Dim, b: int) -> Dim:
    """Return a / b rounded up, for a positive number b."""
    return floor_div(a + (b - 1), b)


def positive_part(a: Dim) -> Dim:
    """Return max(a, 0)."""
    if isinstance(a, int):
        return max(a, 0)
    if a.low is not None and a.low >= 0:
        return a
    if a.high is not None and a.high <= 0:
        return 0
    # One of a and -a is the normal form, since max(a, 0) == a + max(-a, 0).
    if a.terms[-1][1] < 0:
        return a + positive_part(-a)
    sample = on_samples(lambda x, _: max(x, 0), a, 0)
    return a.table.make("positive", (a,), sample, max(a.low or 0, 0), a.high)


def maximum(a: Dim, b: Dim) -> Dim:
    """Return the larger of two sizes."""
    return b + positive_part(a - b)


def minimum(a: Dim, b: Dim) -> Dim:
    """Return the smaller of two sizes."""
    return a - positive_part(a - b)


def equal(a: Dim, b: Dim) -> Dim:
    """Return 1 or 0 where it is certain whether a equals b, else a Sym that is 1 or 0."""
    difference = a - b
    if isinstance(difference, int):
        return int(difference == 0)
    if (difference.low is not None and difference.low > 0) or (
        difference.high is not None and difference.high < 0
    ):
        return 0
    if difference.terms[-1][1] < 0:
        difference = -difference
    sample = on_samples(lambda x, _: int(x == 0), difference, 0)
    return table_of(difference).make("zero", (difference,), sample, 0, 1)


def less(a: Dim, b: Dim) -> Dim:
    """Return 1 or 0 where it is certain whether a < b, else a Sym that is 1 or 0."""
    difference = b - a
    if isinstance(difference, int):
        return int(difference > 0)
    if difference.low is not None and difference.low > 0:
        return 1
    if difference.high is not None and difference.high <= 0:
        return 0
    sample = on_samples(lambda x, _: int(x > 0), difference, 0)
    return difference.table.make("above", (difference,), sample, 0, 1)


def select(condition: Dim, a: Dim, b: Dim) -> Dim:
    """Return a where the condition (0 or 1) holds, else b."""
    if isinstance(condition, int):
        return a if condition else b
    if a is b or (isinstance(a, int) and isinstance(b, int) and a == b):
        return a
    sample: list[int | None] = []
    for world in (0, 1):
        state = condition.sample[world]
        sample.append(None if state is None else sample_of(a if state else b, world))
    lows, highs = (_low_or_none(a), _low_or_none(b)), (_high_or_none(a), _high_or_none(b))
    low = None if lows[0] is None or lows[1] is None else min(lows[0], lows[1])
    high = None if highs[0] is None or highs[1] is None else max(highs[0], highs[1])
    return condition.table.make("select", (condition, a, b), (sample[0], sample[1]), low, high)


def broadcast(a: Dim, b: Dim) -> Dim:
    """Return the size two broadcast axes have together; of two Syms that may differ one of them may be 1."""
    if a is b:
        return a
    if isinstance(a, int):
        if a == 1:
            return b
        if isinstance(b, int):
            return a
        if a != 0:
            note_equal(b, a, or_one=True)
            return a
    elif isinstance(b, int):
        return broadcast(b, a)
    table = table_of(a, b)
    note_equal(a, b, or_one=True)
    members = sorted({*_members(a), *_members(b)}, key=_order)

    def together(world: int) -> int | None:
        sizes = {sample_of(member, world) for member in members} - {1}
        return None if None in sizes or len(sizes) > 1 else next(iter(sizes), 1)

    return table.make("broadcast", tuple(members), (together(0), together(1)), 0, None)


def note_equal(a: Dim, b: Dim, or_one: bool = False) -> None:
    """Record that a valid run needs a == b (or one of them 1) where the sample worlds break it."""
    if isinstance(a, int) and isinstance(b, int):
        return
    for world in (0, 1):
        x, y = sample_of(a, world), sample_of(b, world)
        if x is not None and y is not None and x != y and not (or_one and 1 in (x, y)):
            table_of(a, b).conflicts[(a, b)] = None


def note_equal_products(left: Sequence[Dim], right: Sequence[Dim]) -> None:
    """Record that a valid run needs two products of sizes to be equal where the sample worlds break it."""
    for world in (0, 1):
        a, b = _sample_product(left, world), _sample_product(right, world)
        if a is not None and b is not None and a != b:
            note_equal(product(left), product(right))
            return


def note_divisible(left: Sequence[Dim], right: Sequence[Dim]) -> None:
    """Record that a valid run needs one product of sizes to divide another where the sample worlds break it."""
    for world in (0, 1):
        a, b = _sample_product(left, world), _sample_product(right, world)
        if a is not None and b and a % b and any(isinstance(dim, Sym) for dim in (*left, *right)):
            table_of(*left, *right).remainders[(product(left), product(right))] = None
            return


def _sample_product(dims: Sequence[Dim], world: int) -> int | None:
    total = 1
    for dim in dims:
        size = dim if isinstance(dim, int) else dim.sample[world]
        if size is None:
            return None
        total *= size
    return total


def product(dims: Iterable[Dim]) -> Dim:
    """Return the product of sizes, 1 for none."""
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


# ---------------------------------------------------------------------------------------------------- real functions


def scaled(a: Dim, factor: float) -> Dim | Real:
    """Return a * factor as it stands in a float tensor, exact where the factor is a short fraction."""
    exact = Fraction(factor).limit_denominator(1 << 12)
    if isinstance(a, int) or float(exact) != factor:
        raise TypeError("not a symbolic size times a short fraction")
    if exact.denominator == 1:
        return a * exact.numerator
    if exact.denominator < 1 << 12 and all(
        term[1] * exact.numerator % exact.denominator == 0 for term in a.terms
    ):
        return floor_div(a * exact.numerator, exact.denominator)
    first, second = (None if x is None else x * factor for x in a.sample)
    return Real((first, second), a, exact)


def floor_real(x: Dim | Real) -> Dim:
    """Return the floor of a symbolic number.

    Raises:
        TypeError: it is known by its samples only.
    """
    if not isinstance(x, Real):
        return x
    if x.base is None:
        raise TypeError("known by samples only")
    return floor_div(x.base * x.factor.numerator, x.factor.denominator)


def ceil_real(x: Dim | Real) -> Dim:
    """Return the ceiling of a symbolic number; raises like `floor_real`."""
    if not isinstance(x, Real):
        return x
    if x.base is None:
        raise TypeError("known by samples only")
    return -floor_div(-(x.base * x.factor.numerator), x.factor.denominator)


# ------------------------------------------------------------------------------------------------------------ details


def _low_or_none(a: Dim) -> int | None:
    return a if isinstance(a, int) else a.low


def _high_or_none(a: Dim) -> int | None:
    return a if isinstance(a, int) else a.high


def _members(a: Dim) -> tuple[Dim, ...]:
    atom = None if isinstance(a, int) else a.atom
    return atom.args if atom is not None and atom.kind == "broadcast" else (a,)  # type: ignore[return-value]


def _order(a: Dim) -> tuple[int, int]:
    return (0, a) if isinstance(a, int) else (1, a.number)
