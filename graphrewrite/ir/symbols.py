"""Symbolic sizes: integers that depend on the sizes of a model's inputs, in a form that makes equal things equal.

A `Sym` is a polynomial with integer coefficients over *atoms*. An atom is a named input size ("batch"), an opaque
unknown, or an operation that is no polynomial (floor division, the positive part, a comparison) applied to other
sizes. Everything is interned in one `Symbols` table, so equality is identity: `batch * h * w // (h * w) is batch`.

Two sample worlds are computed along: every named size has a number in world 0 and another in world 1, and every
expression therefore has one too (None where it hangs on the contents of a tensor).
"""

from collections.abc import Callable
from fractions import Fraction
from math import gcd
from typing import TypeAlias, Union

from graphrewrite.errors import ShapeError
from graphrewrite.ir.polynomial import (
    Monomial,
    Terms,
    add,
    divide,
    multiply,
    split_by_monomial,
    split_by_number,
)
from graphrewrite.ir.symbol_text import spelled

Dim: TypeAlias = Union[int, "Sym"]
Sample: TypeAlias = tuple[int | None, int | None]
RealSample: TypeAlias = tuple[float | None, float | None]
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

    def __init__(self, table: "Symbols", terms: Terms, number: int) -> None:
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
        return spelled(self)

    def __repr__(self) -> str:
        return f"<{self}>"


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
        self._by_terms: dict[Terms, Sym] = {}
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
        if isinstance(b, int) and not b:
            return a
        key = (a, b)
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = self.polynomial(add(terms_of(a), terms_of(b)), ("sum", a, b))
        return found

    def multiply(self, a: Dim, b: Dim) -> Dim:
        """Return a * b in normal form."""
        key = (a, b)
        found = self._products.get(key)
        if found is None:
            terms = multiply(terms_of(a), terms_of(b))
            found = self._products[key] = self.polynomial(terms, ("product", a, b))
        return found

    def polynomial(self, terms: dict[Monomial, int], key: _Key) -> Dim:
        """Return the normal form of a sum of terms; beyond a bounded length the atom `key` stands for it."""
        kept = tuple(sorted(terms.items()))
        if not kept:
            return 0
        if len(kept) == 1 and kept[0][0] == ():
            return kept[0][1]
        if len(kept) > _MAX_TERMS:
            sample, low, high = self.describe(kept)
            return self.make(str(key[0]), key[1:], sample, low, high)
        return self._intern(kept)

    def describe(self, terms: Terms) -> tuple[Sample, int | None, int | None]:
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

    def _range(self, monomial: Monomial, factor: int) -> tuple[int | None, int | None]:
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

    def _intern(self, terms: Terms) -> Sym:
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
    table = table_of(a, b)
    found = table._quotients.get((a, b))
    if found is None:
        found = _by_number(table, a, b) if isinstance(b, int) else _by_symbol(table, a, b)  # type: ignore[arg-type]
        table._quotients[(a, b)] = found
    return found


def exact_div(a: Dim, b: Dim) -> Dim | None:
    """Return a / b when it is a polynomial with integer coefficients, else None."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    quotient = divide(terms_of(a), terms_of(b), 2 * _MAX_TERMS)
    return None if quotient is None else table_of(a, b).polynomial(quotient, ("ratio", a, b))


def _by_number(table: Symbols, a: Sym, b: int) -> Dim:
    whole, rest = split_by_number(a.terms, b)
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
    if low_of(a) >= 0 and isinstance(a, int) and b.low is not None and b.low > a:
        return 0
    if len(b.terms) == 1:
        monomial, factor = b.terms[0]
        whole, rest = split_by_monomial(terms_of(a), monomial, factor)
        if whole:
            inside = table.polynomial(rest, ("rest", a, b))
            return table.polynomial(whole, ("whole", a, b)) + floor_div(inside, b)
    return _quotient_atom(table, a, b)


def _quotient_atom(table: Symbols, a: Dim, b: Dim) -> Sym:
    sample = on_samples(lambda x, y: x // y if y else None, a, b)
    divisor = low_of(b)
    low = 0 if low_of(a) >= 0 and divisor >= 1 else None
    high = None
    if isinstance(b, int):
        low = a.low // b if isinstance(a, Sym) and a.low is not None else None
        high = a.high // b if isinstance(a, Sym) and a.high is not None else None
    return table.make("quotient", (a, b), sample, low, high)


def modulo(a: Dim, b: Dim) -> Dim:
    """Return the remainder with the sign of b: what ONNX `Mod` does with integers."""
    return a - floor_div(a, b) * b


def sample_of(dim: Dim, world: int) -> int | None:
    """Return a size's number in a sample world."""
    return dim if isinstance(dim, int) else dim.sample[world]


# ------------------------------------------------------------------------------------------------------------ details


def terms_of(a: Dim) -> Terms:
    """Return the terms of a size."""
    if isinstance(a, int):
        return (((), int(a)),) if a else ()
    return a.terms


def table_of(*dims: Dim) -> Symbols:
    """Return the table of the first symbolic size."""
    for dim in dims:
        if isinstance(dim, Sym):
            return dim.table
    raise TypeError("none of the sizes is symbolic")


def low_of(a: Dim) -> int:
    """Return a lower bound, -1 when there is none."""
    low = a if isinstance(a, int) else a.low
    return -1 if low is None else low


def on_samples(function: Callable[[int, int], int | None], a: Dim, b: Dim) -> Sample:
    """Return a function of two sizes in both sample worlds."""
    out: list[int | None] = []
    for world in (0, 1):
        x, y = sample_of(a, world), sample_of(b, world)
        out.append(None if x is None or y is None else function(x, y))
    return out[0], out[1]
