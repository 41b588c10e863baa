"""Symbolic sizes: integers that depend on the sizes of a model's inputs, in a form that makes equal things equal.

A `Sym` is a polynomial with integer coefficients over *atoms*. An atom is a named input size ("batch"), an opaque
unknown, or an operation that is no polynomial (floor division, the positive part, a comparison) applied to other
sizes. Everything is interned in one `Symbols` table, so equality is identity: `batch * h * w // (h * w) is batch`.

Two sample worlds are computed along: every named size has a number in world 0 and another in world 1, and every
expression therefore has one too (None where it hangs on the contents of a tensor).
"""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import gcd
from typing import TypeAlias, Union

from graphrewrite.errors import ShapeError

Dim: TypeAlias = Union[int, "Sym"]
Sample: TypeAlias = tuple[int | None, int | None]
RealSample: TypeAlias = tuple[float | None, float | None]
_Monomial: TypeAlias = tuple[int, ...]
_Key: TypeAlias = tuple[object, ...]

# A longer polynomial becomes one atom: products of sums must not grow without bound.
_MAX_TERMS = 48


class Sym:
    """One interned symbolic integer; arithmetic with ints and Syms of the same table gives ints or Syms.

    Attributes:
        terms: ((atom numbers, ascending), coefficient) pairs in order; the empty monomial is the constant.
        sample: the value in world 0 and in world 1, None where unknown.
        low: a lower bound that always holds, or None.
        high: an upper bound that always holds, or None.
    """

    __slots__ = ("table", "terms", "number", "sample", "low", "high")

    def __init__(self, table: "Symbols", terms: tuple[tuple[_Monomial, int], ...], number: int) -> None:
        self.table = table
        self.terms = terms
        self.number = number
        self.sample, self.low, self.high = table.describe(terms)

    @property
    def name(self) -> str | None:
        """The name of a plain input size, None for any other expression."""
        atom = self.atom
        return atom.args[0] if atom is not None and atom.kind == "size" else None  # type: ignore[return-value]

    @property
    def atom(self) -> "Atom | None":
        """The atom this Sym consists of, None when it is a sum or product."""
        if len(self.terms) == 1:
            monomial, factor = self.terms[0]
            if factor == 1 and len(monomial) == 1:
                return self.table.atoms[monomial[0]]
        return None

    def __add__(self, other: object) -> Dim:
        return self.table.add(self, other) if isinstance(other, (int, Sym)) else NotImplemented

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return self.table.multiply(self, -1)

    def __sub__(self, other: object) -> Dim:
        return self.table.add(self, -other) if isinstance(other, (int, Sym)) else NotImplemented

    def __rsub__(self, other: object) -> Dim:
        return self.table.add(-self, other) if isinstance(other, (int, Sym)) else NotImplemented

    def __mul__(self, other: object) -> Dim:
        return self.table.multiply(self, other) if isinstance(other, (int, Sym)) else NotImplemented

    __rmul__ = __mul__

    def __floordiv__(self, other: object) -> Dim:
        return floor_div(self, other) if isinstance(other, (int, Sym)) else NotImplemented

    def __rfloordiv__(self, other: object) -> Dim:
        return floor_div(other, self) if isinstance(other, (int, Sym)) else NotImplemented

    def __mod__(self, other: object) -> Dim:
        return modulo(self, other) if isinstance(other, (int, Sym)) else NotImplemented

    def __rmod__(self, other: object) -> Dim:
        return modulo(other, self) if isinstance(other, (int, Sym)) else NotImplemented

    def __bool__(self) -> bool:
        raise ShapeError(
            f"the truth of the symbolic size {self} is not known; compare with equal() or less() first"
        )

    def __str__(self) -> str:
        parts = [_term_text(self.table, monomial, factor) for monomial, factor in reversed(self.terms)]
        return " + ".join(parts).replace("+ -", "- ")

    def __repr__(self) -> str:
        return f"<{self}>"

    def __deepcopy__(self, memo: object) -> "Sym":
        return self

    def __copy__(self) -> "Sym":
        return self


class Real:
    """A symbolic number in a float tensor: `base * factor` exactly, or known by its samples only (`base` None)."""

    __slots__ = ("base", "factor", "sample")

    def __init__(self, sample: RealSample, base: Sym | None = None, factor: Fraction = Fraction(1)) -> None:
        self.sample = sample
        self.base = base
        self.factor = factor

    def __repr__(self) -> str:
        return f"<{self.base} * {self.factor}>" if self.base is not None else f"<real {self.sample}>"


class Atom:
    """What polynomials are made of: a kind with its arguments, a sample and bounds."""

    __slots__ = ("kind", "args", "sample", "low", "high")

    def __init__(self, kind: str, args: _Key, sample: Sample, low: int | None, high: int | None) -> None:
        self.kind, self.args, self.sample, self.low, self.high = kind, args, sample, low, high

    def __str__(self) -> str:
        if self.kind == "size":
            return str(self.args[0])
        if self.kind == "unknown":
            return f"?{self.args[0]}"
        if self.kind == "quotient":
            return f"({self.args[0]})//({self.args[1]})"
        return f"{self.kind}({', '.join(str(arg) for arg in self.args)})"


class Symbols:
    """The table in which all Syms of one inference are interned, and what the sample worlds turned out to break.

    Attributes:
        atoms: what polynomials are made of, by number.
        conflicts: pairs of sizes that must be equal in a valid run but are not in a sample world.
        remainders: pairs of sizes of which the second must divide the first but does not in a sample world.
        too_small: whether a size is below one in a sample world.
    """

    def __init__(self) -> None:
        self.atoms: list[Atom] = []
        self.too_small = False
        self.conflicts: dict[tuple[Dim, Dim], None] = {}
        self.remainders: dict[tuple[Dim, Dim], None] = {}
        self._by_key: dict[_Key, Sym] = {}
        self._by_terms: dict[tuple[tuple[_Monomial, int], ...], Sym] = {}
        self._sums: dict[tuple[Dim, Dim], Dim] = {}
        self._products: dict[tuple[Dim, Dim], Dim] = {}
        self._quotients: dict[tuple[Dim, Dim], Dim] = {}
        self._reals: dict[_Key, Real] = {}
        self._tokens: dict[_Key, int] = {}

    def size(self, name: str, sample: Sample) -> Sym:
        """Return the size of an input called `name`; input sizes are at least one."""
        return self.make("size", (name,), sample, 1, None)

    def named(self, name: str) -> Sym | None:
        """Return the input size of this name, None when there is none."""
        return self._by_key.get(("size", name))

    def unknown(self) -> Sym:
        """Return a new size nothing is known about except that it is not negative (it hangs on contents)."""
        return self.make("unknown", (len(self.atoms),), (None, None), 0, None)

    def content(self) -> Sym:
        """Return a new integer nothing at all is known about: an element of a tensor's contents."""
        return self.make("unknown", (len(self.atoms),), (None, None))

    def make(
        self, kind: str, args: _Key, sample: Sample, low: int | None = None, high: int | None = None
    ) -> Sym:
        """Return the atom `kind(args)`, the same object for the same arguments."""
        key = (kind, *args)
        found = self._by_key.get(key)
        if found is None:
            self.atoms.append(Atom(kind, args, sample, low, high))
            found = self._by_key[key] = self._intern((((len(self.atoms) - 1,), 1),))
        return found

    def token(self, key: _Key) -> int:
        """Return a short stand-in for a long key, the same number for the same key."""
        return self._tokens.setdefault(key, len(self._tokens))

    def real(self, key: _Key, sample: RealSample) -> Real:
        """Return the float known by its samples only, the same object for the same key."""
        found = self._reals.get(key)
        if found is None:
            found = self._reals[key] = Real(sample)
        return found

    def add(self, a: Dim, b: Dim) -> Dim:
        """Return a + b in normal form."""
        key = (a, b)
        found = self._sums.get(key)
        if found is None:
            terms = dict(_terms(a))
            for monomial, factor in _terms(b):
                terms[monomial] = terms.get(monomial, 0) + factor
            found = self._sums[key] = self.polynomial(terms, ("sum", a, b))
        return found

    def multiply(self, a: Dim, b: Dim) -> Dim:
        """Return a * b in normal form."""
        key = (a, b)
        found = self._products.get(key)
        if found is None:
            terms: dict[_Monomial, int] = {}
            for left, x in _terms(a):
                for right, y in _terms(b):
                    monomial = tuple(sorted(left + right)) if left and right else left or right
                    terms[monomial] = terms.get(monomial, 0) + x * y
            found = self._products[key] = self.polynomial(terms, ("product", a, b))
        return found

    def polynomial(self, terms: dict[_Monomial, int], key: _Key) -> Dim:
        """Return the normal form of a sum of terms; beyond a bounded length the atom `key` stands for it."""
        kept = tuple(sorted(item for item in terms.items() if item[1]))
        if not kept:
            return 0
        if len(kept) == 1 and kept[0][0] == ():
            return kept[0][1]
        if len(kept) > _MAX_TERMS:
            sample, low, high = self.describe(kept)
            return self.make(str(key[0]), key[1:], sample, low, high)
        return self._intern(kept)

    def describe(self, terms: Iterable[tuple[_Monomial, int]]) -> tuple[Sample, int | None, int | None]:
        """Return (sample, low, high) of a sum of terms."""
        first: int | None = 0
        second: int | None = 0
        low: int | None = 0
        high: int | None = 0
        atoms = self.atoms
        for monomial, factor in terms:
            a: int | None = factor
            b: int | None = factor
            least, most = (factor, factor) if not monomial else self._range(monomial, factor)
            for index in monomial:
                x, y = atoms[index].sample
                a = None if a is None or x is None else a * x
                b = None if b is None or y is None else b * y
            first = None if first is None or a is None else first + a
            second = None if second is None or b is None else second + b
            low = None if low is None or least is None else low + least
            high = None if high is None or most is None else high + most
        return (first, second), low, high

    def _range(self, monomial: _Monomial, factor: int) -> tuple[int | None, int | None]:
        low: int | None = 1
        high: int | None = 1
        for index in monomial:
            atom = self.atoms[index]
            if len(monomial) > 1 and (atom.low is None or atom.low < 0):
                return None, None
            low = None if low is None or atom.low is None else low * atom.low
            high = None if high is None or atom.high is None else high * atom.high
        least = None if low is None else low * factor
        most = None if high is None else high * factor
        return (least, most) if factor > 0 else (most, least)

    def _intern(self, terms: tuple[tuple[_Monomial, int], ...]) -> Sym:
        found = self._by_terms.get(terms)
        if found is None:
            found = self._by_terms[terms] = Sym(self, terms, len(self._by_terms))
        return found


# ------------------------------------------------------------------------------------------------ integer functions


def floor_div(a: Dim, b: Dim) -> Dim:
    """Return a / b rounded down; exact quotients cancel (`b * x // b` is `x`).

    Raises:
        ZeroDivisionError: b is the number zero.
    """
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if isinstance(b, int):
        if b == 1:
            return a
        if b == 0:
            raise ZeroDivisionError("division of a symbolic size by zero")
        if b < 0:
            return floor_div(-a, -b)
    table = _table(a, b)
    found = table._quotients.get((a, b))
    if found is None:
        found = _by_number(table, a, b) if isinstance(b, int) else _by_symbol(table, a, b)  # type: ignore[arg-type]
        table._quotients[(a, b)] = found
    return found


def exact_div(a: Dim, b: Dim) -> Dim | None:
    """Return a / b when it is a polynomial with integer coefficients, else None."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    rest = dict(_terms(a))
    divisor = _terms(b)
    if not divisor:
        return None
    lead, lead_factor = min(divisor, key=_leading)
    quotient: dict[_Monomial, int] = {}
    for _ in range(2 * _MAX_TERMS):
        if not rest:
            return _table(a, b).polynomial(quotient, ("ratio", a, b))
        monomial = min(rest, key=lambda m: (-len(m), m))
        factor = rest[monomial]
        cofactor = _without(monomial, lead)
        if cofactor is None or factor % lead_factor:
            return None
        step = factor // lead_factor
        quotient[cofactor] = quotient.get(cofactor, 0) + step
        for other, weight in divisor:
            product = tuple(sorted(cofactor + other))
            left = rest.get(product, 0) - step * weight
            if left:
                rest[product] = left
            else:
                rest.pop(product, None)
    return None


def _by_number(table: Symbols, a: Sym, b: int) -> Dim:
    whole: dict[_Monomial, int] = {}
    rest: dict[_Monomial, int] = {}
    for monomial, factor in a.terms:
        quotient, remainder = divmod(factor, b)
        if quotient:
            whole[monomial] = quotient
        if remainder:
            rest[monomial] = remainder
    outside = table.polynomial(whole, ("whole", a, b))
    inside = table.polynomial(rest, ("rest", a, b))
    if isinstance(inside, int):
        return outside + inside // b
    if inside.low is not None and inside.high is not None and inside.low // b == inside.high // b:
        return outside + inside.low // b
    # (g*x + r) // (g*m) == (x + r // g) // m for integers x and m
    common = b
    for monomial, factor in inside.terms:
        if monomial:
            common = gcd(common, factor)
    if common > 1:
        smaller = table.polynomial({m: f // common for m, f in inside.terms}, ("smaller", inside, common))
        return outside + floor_div(smaller, b // common)
    # ((x // m) + k) // n == (x + k*m) // (m*n) for positive m and n
    offset = inside.terms[0][1] if inside.terms[0][0] == () else 0
    core = inside - offset
    atom = core.atom if isinstance(core, Sym) else None
    if atom is not None and atom.kind == "quotient" and isinstance(atom.args[1], int):
        return outside + floor_div(atom.args[0] + offset * atom.args[1], b * atom.args[1])  # type: ignore[operator]
    return outside + _quotient_atom(table, inside, b)


def _by_symbol(table: Symbols, a: Dim, b: Sym) -> Dim:
    exact = exact_div(a, b)
    if exact is not None:
        return exact
    if _low(a) >= 0 and isinstance(a, int) and b.low is not None and b.low > a:
        return 0
    if len(b.terms) == 1:
        monomial, factor = b.terms[0]
        whole: dict[_Monomial, int] = {}
        rest: dict[_Monomial, int] = {}
        for other, weight in _terms(a):
            cofactor = _without(other, monomial)
            if cofactor is not None and weight % factor == 0:
                whole[cofactor] = weight // factor
            else:
                rest[other] = weight
        if whole:
            inside = table.polynomial(rest, ("rest", a, b))
            return table.polynomial(whole, ("whole", a, b)) + floor_div(inside, b)
    return _quotient_atom(table, a, b)


def _quotient_atom(table: Symbols, a: Dim, b: Dim) -> Sym:
    sample = _on_samples(lambda x, y: x // y if y else None, a, b)
    divisor = _low(b)
    low = 0 if _low(a) >= 0 and divisor >= 1 else None
    high = None
    if isinstance(b, int):
        low = a.low // b if isinstance(a, Sym) and a.low is not None else None
        high = a.high // b if isinstance(a, Sym) and a.high is not None else None
    return table.make("quotient", (a, b), sample, low, high)


def trunc_div(a: Dim, b: Dim) -> Dim:
    """Return a / b rounded towards zero: what ONNX `Div` does with integers."""
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    exact = exact_div(a, b)
    if exact is not None:
        return exact
    if _low(b) >= 1:
        if _low(a) >= 0:
            return floor_div(a, b)
        if isinstance(a, Sym) and a.high is not None and a.high <= 0:
            return -floor_div(-a, b)
    sample = _on_samples(lambda x, y: int(trunc_div(x, y)) if y else None, a, b)  # type: ignore[arg-type]
    return _table(a, b).make("truncated", (a, b), sample)


def ceil_div(a: Dim, b: int) -> Dim:
    """Return a / b rounded up, for a positive number b."""
    return floor_div(a + (b - 1), b)


def modulo(a: Dim, b: Dim) -> Dim:
    """Return the remainder with the sign of b: what ONNX `Mod` does with integers."""
    return a - floor_div(a, b) * b


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
    sample = _on_samples(lambda x, _: max(x, 0), a, 0)
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
    sample = _on_samples(lambda x, _: int(x == 0), difference, 0)
    return _table(difference).make("zero", (difference,), sample, 0, 1)


def less(a: Dim, b: Dim) -> Dim:
    """Return 1 or 0 where it is certain whether a < b, else a Sym that is 1 or 0."""
    difference = b - a
    if isinstance(difference, int):
        return int(difference > 0)
    if difference.low is not None and difference.low > 0:
        return 1
    if difference.high is not None and difference.high <= 0:
        return 0
    sample = _on_samples(lambda x, _: int(x > 0), difference, 0)
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
    table = _table(a, b)
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
            _table(a, b).conflicts[(a, b)] = None


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
            _table(*left, *right).remainders[(product(left), product(right))] = None
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


def sample_of(dim: Dim, world: int) -> int | None:
    """Return a size's number in a sample world."""
    return dim if isinstance(dim, int) else dim.sample[world]


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


def _terms(a: Dim) -> tuple[tuple[_Monomial, int], ...]:
    if isinstance(a, int):
        return (((), int(a)),) if a else ()
    return a.terms


def _table(*dims: Dim) -> Symbols:
    for dim in dims:
        if isinstance(dim, Sym):
            return dim.table
    raise TypeError("none of the sizes is symbolic")


def _low(a: Dim) -> int:
    low = _low_or_none(a)
    return -1 if low is None else low


def _low_or_none(a: Dim) -> int | None:
    return a if isinstance(a, int) else a.low


def _high_or_none(a: Dim) -> int | None:
    return a if isinstance(a, int) else a.high


def _on_samples(function: Callable[[int, int], int | None], a: Dim, b: Dim) -> Sample:
    out: list[int | None] = []
    for world in (0, 1):
        x, y = sample_of(a, world), sample_of(b, world)
        out.append(None if x is None or y is None else function(x, y))
    return out[0], out[1]


def _leading(term: tuple[_Monomial, int]) -> tuple[int, _Monomial]:
    return -len(term[0]), term[0]


def _without(monomial: _Monomial, factor: _Monomial) -> _Monomial | None:
    left = list(monomial)
    for index in factor:
        if index not in left:
            return None
        left.remove(index)
    return tuple(left)


def _members(a: Dim) -> tuple[Dim, ...]:
    atom = None if isinstance(a, int) else a.atom
    return atom.args if atom is not None and atom.kind == "broadcast" else (a,)  # type: ignore[return-value]


def _order(a: Dim) -> tuple[int, int]:
    return (0, a) if isinstance(a, int) else (1, a.number)


def _term_text(table: Symbols, monomial: _Monomial, factor: int) -> str:
    if not monomial:
        return str(factor)
    text = "*".join(str(table.atoms[index]) for index in monomial)
    return text if factor == 1 else f"-{text}" if factor == -1 else f"{factor}*{text}"
