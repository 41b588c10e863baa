"""Symbolic sizes: identities that must hold by identity, and random expressions against plain integers."""

import random

import pytest

from graphrewrite.errors import ShapeError
from graphrewrite.ir import Dim, Sym
from graphrewrite.ir.polynomial import add, divide, multiply
from graphrewrite.ir.sizes import (
    broadcast,
    ceil_div,
    equal,
    less,
    maximum,
    minimum,
    select,
    trunc_div,
)
from graphrewrite.ir.symbols import Symbols, exact_div, floor_div, modulo


def sizes(*names: str) -> list[Sym]:
    table = Symbols()
    return [table.size(name, (5 + index, 11 + 2 * index)) for index, name in enumerate(names)]


def test_equal_expressions_are_one_object() -> None:
    batch, height, width = sizes("batch", "height", "width")
    area = height * width
    assert floor_div(batch * height * width, area) is batch
    assert (height + width) * (height - width) is height * height - width * width
    assert batch + 0 is batch and batch * 1 is batch and 0 + (batch - 0) is batch
    assert batch - batch == 0 and floor_div(batch, batch) == 1
    assert floor_div(batch * (height + 1) * 8, height * 8 + 8) is batch


def test_halving_twice_is_quartering() -> None:
    (height,) = sizes("height")
    half = floor_div(height + 1, 2)
    quarter = floor_div(half + 1, 2)
    # floor((floor((h + 1) / 2) + 1) / 2) = floor((h + 3) / 4)
    assert quarter is floor_div(height + 3, 4)
    assert str(quarter) == "(height + 3)//(4)"


def test_bounds_decide_where_they_can() -> None:
    batch, time = sizes("batch", "time")
    assert equal(batch, 0) == 0 and less(0, batch) == 1
    assert minimum(batch, 1) == 1 and maximum(batch, 1) is batch
    undecided = equal(batch, 1)
    assert isinstance(undecided, Sym) and undecided.sample == (0, 0)
    assert isinstance(less(batch, time), Sym)
    with pytest.raises(ShapeError):
        bool(undecided)


def test_a_broadcast_of_different_sizes_is_not_either_of_them() -> None:
    batch, other = sizes("batch", "other")
    assert broadcast(batch, 1) is batch and broadcast(batch, 7) == 7
    both = broadcast(batch, other)
    assert both is broadcast(other, batch) and both is broadcast(both, batch)
    # The samples (5 and 6) contradict each other: no valid run has them.
    assert isinstance(both, Sym) and both.sample == (None, None)
    assert {(batch, 7), (batch, other)} <= set(batch.table.conflicts)


def test_unknown_sizes_have_no_sample_but_still_cancel() -> None:
    table = Symbols()
    count = table.unknown()
    product = count * 4
    assert isinstance(product, Sym) and product.sample == (None, None) and floor_div(product, 4) is count
    assert table.unknown() is not count


def test_products_of_long_sums_stay_bounded() -> None:
    names = sizes(*(f"s{index}" for index in range(12)))
    total: Dim = 1
    for index in range(0, 12, 2):
        total = total * (names[index] + names[index + 1])
    # 64 terms written out; the numbers are right all the same.
    expected = [1, 1]
    for index in range(0, 12, 2):
        expected = [e * (names[index].sample[w] + names[index + 1].sample[w]) for w, e in enumerate(expected)]  # type: ignore[operator]
    assert isinstance(total, Sym) and list(total.sample) == expected and len(total.terms) < 48


def random_expression(rng: random.Random, leaves: list[Sym], depth: int) -> tuple[Dim, tuple[int, int]]:
    """Return a random expression and its value in both worlds, computed with plain integers."""
    if depth == 0 or rng.random() < 0.2:
        if rng.random() < 0.4:
            number = rng.randint(-4, 9)
            return number, (number, number)
        leaf = rng.choice(leaves)
        return leaf, (leaf.sample[0] or 0, leaf.sample[1] or 0)
    a, x = random_expression(rng, leaves, depth - 1)
    b, y = random_expression(rng, leaves, depth - 1)
    kind = rng.randrange(11)
    if kind <= 1:
        return a + b, (x[0] + y[0], x[1] + y[1])
    if kind == 2:
        return a - b, (x[0] - y[0], x[1] - y[1])
    if kind == 3:
        return a * b, (x[0] * y[0], x[1] * y[1])
    if kind == 4:
        number = rng.randint(1, 6)
        return floor_div(a, number), (x[0] // number, x[1] // number)
    if kind == 5 and 0 not in y:
        return floor_div(a, b), (x[0] // y[0], x[1] // y[1])
    if kind == 6 and 0 not in y:
        return trunc_div(a, b), (int(x[0] / y[0]), int(x[1] / y[1]))
    if kind == 7:
        return minimum(a, b), (min(x[0], y[0]), min(x[1], y[1]))
    if kind == 8:
        return maximum(a, b), (max(x[0], y[0]), max(x[1], y[1]))
    if kind == 9 and 0 not in y:
        return modulo(a, b), (x[0] % y[0], x[1] % y[1])
    return select(less(a, b), a, ceil_div(b, 3)), tuple(  # type: ignore[return-value]
        p if p < q else -(-q // 3) for p, q in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("seed", range(300))
def test_random_expressions_keep_their_value(seed: int) -> None:
    rng = random.Random(seed)
    table = Symbols()
    leaves = [table.size(name, (rng.randint(1, 9), rng.randint(1, 40))) for name in "abc"]
    dim, expected = random_expression(rng, leaves, 5)
    found = (dim, dim) if isinstance(dim, int) else dim.sample
    assert found == expected
    if isinstance(dim, Sym):
        assert dim.low is None or dim.low <= min(expected)
        assert dim.high is None or dim.high >= max(expected)


def test_random_polynomials_divide_exactly_or_not_at_all() -> None:
    rng = random.Random(1)
    for _ in range(200):
        one = {tuple(sorted(rng.choices(range(3), k=rng.randint(0, 2)))): rng.randint(1, 5) for _ in range(3)}
        two = {tuple(sorted(rng.choices(range(3), k=rng.randint(0, 2)))): rng.randint(1, 5) for _ in range(2)}
        product = multiply(tuple(one.items()), tuple(two.items()))
        assert divide(tuple(product.items()), tuple(two.items()), 100) == one
        spoilt = add(product.items(), {(7,): 1}.items())
        assert divide(tuple(spoilt.items()), tuple(two.items()), 100) is None or two.keys() == {()}


def test_exact_division_refuses_a_remainder() -> None:
    (batch,) = sizes("batch")
    assert exact_div(6 * batch + 3, 3) is not None
    assert exact_div(6 * batch + 4, 3) is None
    assert exact_div(batch, 2) is None
