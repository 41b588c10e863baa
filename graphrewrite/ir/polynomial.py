"""Polynomials as plain data: {monomial: coefficient}, a monomial being the ascending numbers of its variables.

`{(): 3, (0,): 2, (0, 1): 1}` is 3 + 2a + ab. The empty dict is zero; coefficients are never zero in a result.
"""

from collections.abc import Iterable
from typing import TypeAlias

Monomial: TypeAlias = tuple[int, ...]
Terms: TypeAlias = tuple[tuple[Monomial, int], ...]


def add(a: Iterable[tuple[Monomial, int]], b: Iterable[tuple[Monomial, int]]) -> dict[Monomial, int]:
    """Return a + b."""
    total = dict(a)
    for monomial, factor in b:
        total[monomial] = total.get(monomial, 0) + factor
    return {monomial: factor for monomial, factor in total.items() if factor}


def multiply(a: Terms, b: Terms) -> dict[Monomial, int]:
    """Return a * b."""
    total: dict[Monomial, int] = {}
    for left, x in a:
        for right, y in b:
            monomial = tuple(sorted(left + right)) if left and right else left or right
            total[monomial] = total.get(monomial, 0) + x * y
    return {monomial: factor for monomial, factor in total.items() if factor}


def divide(a: Terms, b: Terms, steps: int) -> dict[Monomial, int] | None:
    """Return q with q * b == a and integer coefficients, or None when there is none (or it has too many terms).

    Long division by leading terms, in the order of degree first and then of the lowest variable numbers.
    """
    if not b:
        return None
    rest = dict(a)
    lead, lead_factor = min(b, key=lambda term: _order(term[0]))
    quotient: dict[Monomial, int] = {}
    for _ in range(steps):
        if not rest:
            return quotient
        monomial = min(rest, key=_order)
        cofactor = without(monomial, lead)
        step, remainder = divmod(rest[monomial], lead_factor)
        if cofactor is None or remainder:
            return None
        quotient[cofactor] = step
        for other, weight in b:
            product = tuple(sorted(cofactor + other))
            left = rest.get(product, 0) - step * weight
            if left:
                rest[product] = left
            else:
                rest.pop(product, None)
    return None


def without(monomial: Monomial, factor: Monomial) -> Monomial | None:
    """Return the monomial divided by another one, None when it is no multiple of it."""
    left = list(monomial)
    for index in factor:
        if index not in left:
            return None
        left.remove(index)
    return tuple(left)


def split_by_number(a: Terms, b: int) -> tuple[dict[Monomial, int], dict[Monomial, int]]:
    """Return (q, r) with a == q * b + r and every coefficient of r in [0, b)."""
    whole = {monomial: factor // b for monomial, factor in a if factor // b}
    return whole, {monomial: factor % b for monomial, factor in a if factor % b}


def split_by_monomial(a: Terms, b: Monomial, weight: int) -> tuple[dict[Monomial, int], dict[Monomial, int]]:
    """Return (q, r) with a == q * weight * b + r, where no term of r is a multiple of weight * b."""
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, factor in a:
        cofactor = without(monomial, b)
        if cofactor is not None and factor % weight == 0:
            whole[cofactor] = factor // weight
        else:
            rest[monomial] = factor
    return whole, rest


def _order(monomial: Monomial) -> tuple[int, Monomial]:
    return -len(monomial), monomial
