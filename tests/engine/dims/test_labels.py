"""The label algebra against a twin that tries every assignment.

Two demands are told apart. *Sound*: whatever the labels allow, the twin allows; asked of everything. *Exact*: the
labels allow all of it, so nothing is tied that need not be; asked where the algebra promises it (labels that occur
once, digits of unlike labels, products that meet the same split).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.dims.labels import Labels
from graphrewrite.errors import ShapeError
from tests.engine.dims.twin import Twin, free_terminals, reachable

Ints = npt.NDArray[np.int64]
WHY = "test"


def start(count: int) -> tuple[Labels, Twin]:
    return fresh(count), Twin(count)


def fresh(count: int) -> Labels:
    labels = Labels()
    labels.fresh(count)
    return labels


def single(*labels: int) -> Ints:
    return np.array(labels, dtype=np.int64)[:, None]


def rows(*items: tuple[int, ...]) -> Ints:
    width = max(len(item) for item in items)
    return np.array([[*item, *[0] * (width - len(item))] for item in items], dtype=np.int64)


def product_rows(first: range, second: range) -> Ints:
    return rows(*((a, b) for a in first for b in second))


# ------------------------------------------------------------------------------------------------------ by hand


def test_unify_makes_two_labels_one() -> None:
    labels = fresh(4)
    labels.unify(single(1, 2), single(3, 4), WHY)
    assert labels.resolve(single(1, 2, 3, 4)).ravel().tolist() == [1, 2, 1, 2]


def test_unify_is_transitive_over_long_chains_without_recursion() -> None:
    labels = fresh(20000)
    chain = np.arange(1, 20001)[:, None]
    labels.unify(chain[1:], chain[:-1], WHY)
    assert (labels.resolve(chain) == 1).all()


def test_a_label_beside_several_stands_for_all_of_them() -> None:
    labels = fresh(3)
    labels.unify(single(1), rows((2, 3)), WHY)
    assert labels.resolve(single(1)).tolist() == [[2, 3]]
    assert labels.is_expanded(np.array([1])).tolist() == [True]


def test_the_digits_of_six_positions_are_two_and_three() -> None:
    labels = fresh(6)
    first, second = labels.digits(single(1, 2, 3, 4, 5, 6), [2, 3], WHY)
    assert (len(first), len(second)) == (2, 3)
    alive = labels.resolve(single(1, 2, 3, 4, 5, 6))
    expected = [
        {int(labels.find(first[i])[0]), int(labels.find(second[j])[0])} for i in range(2) for j in range(3)
    ]
    assert [set(row.tolist()) for row in alive] == expected


def test_a_pinned_cell_pins_its_row_and_its_column_and_no_other() -> None:
    labels = fresh(6)
    labels.pin(single(1), "held")  # cell (0, 0) of 2 x 3
    first, second = labels.digits(single(1, 2, 3, 4, 5, 6), [2, 3], WHY)
    assert [len(free_terminals(labels, row[None])) for row in first] == [0, 1]
    assert [len(free_terminals(labels, row[None])) for row in second] == [0, 1, 1]


def test_the_first_reason_of_a_pin_stays_and_travels_with_unions() -> None:
    labels = fresh(3)
    labels.pin(single(2), "first")
    labels.pin(single(2), "second")
    labels.unify(single(1, 3), single(2, 2), WHY)
    numbers = labels.pin_number(labels.find(np.array([1, 2, 3])))
    assert [labels.reasons[int(n)] for n in numbers] == ["first"] * 3


def test_splits_that_do_not_fit_each_other_are_pinned_with_a_reason() -> None:
    labels = fresh(20)
    # 24 positions as 6 x 4 and as 4 x 6: strides 4 and 6 are no chain.
    labels.unify(product_rows(range(1, 7), range(7, 11)), product_rows(range(11, 15), range(15, 21)), WHY)
    numbers = labels.pin_number(labels.find(np.arange(1, 21)))
    assert (numbers > 0).all()
    assert "incommensurable" in labels.reasons[int(numbers[0])]


def test_axes_of_unequal_length_are_refused() -> None:
    labels = fresh(5)
    with pytest.raises(ShapeError, match="length 2 and 3"):
        labels.unify(single(1, 2), single(3, 4, 5), WHY)
    with pytest.raises(ShapeError, match="cannot be split"):
        labels.digits(single(1, 2, 3), [2, 2], WHY)


def test_no_label_is_handed_out_after_the_analysis_is_closed() -> None:
    labels = fresh(2)
    labels.is_closed = True
    with pytest.raises(ShapeError, match="closed"):
        labels.fresh(1)


# ------------------------------------------------------------------------------------------------ exact, random


def exact_singles(rng: np.random.Generator) -> tuple[Labels, Twin, list[Ints]]:
    """Axes of one label per position, in any pattern, pins and empty rows among them."""
    count = int(rng.integers(2, 10))
    labels, twin = start(count)
    axes = []
    for _ in range(int(rng.integers(1, 5))):
        length = int(rng.integers(1, 5))
        low = 0 if rng.random() < 0.2 else 1
        a, b = (single(*rng.integers(low, count + 1, length)) for _ in range(2))
        labels.unify(a, b, WHY)
        twin.unify(twin.axis(a), twin.axis(b))
        axes += [a, b]
        if rng.random() < 0.3:
            held = single(int(rng.integers(1, count + 1)))
            labels.pin(held, "held")
            twin.pin(twin.axis(held))
    return labels, twin, axes


def exact_bindings(rng: np.random.Generator) -> tuple[Labels, Twin, list[Ints]]:
    """Labels that occur once, each beside a row of others."""
    length, width = int(rng.integers(1, 4)), int(rng.integers(2, 4))
    others = int(rng.integers(2, 7))
    labels, twin = start(length + others)
    lone = single(*range(1, length + 1))
    wide = rng.integers(length + 1, length + others + 1, (length, width))
    if rng.random() < 0.3:
        wide[int(rng.integers(length)), int(rng.integers(width))] = 0
    labels.unify(lone, wide, WHY) if rng.random() < 0.5 else labels.unify(wide, lone, WHY)
    twin.unify(twin.axis(lone), twin.axis(wide))
    return labels, twin, [lone, wide]


def exact_digits(rng: np.random.Generator) -> tuple[Labels, Twin, list[Ints]]:
    """Unlike labels seen as two or three digits, then once more as other digits or unified with another axis."""
    dims = [(2, 2), (2, 3), (3, 2), (2, 4), (4, 2), (3, 3), (2, 2, 2), (5, 2)][int(rng.integers(8))]
    n = int(np.prod(dims))
    extra = int(rng.integers(0, 3))
    labels, twin = start(n + extra)
    whole = single(*range(1, n + 1))
    made = labels.digits(whole, dims, WHY)
    sides = twin.digits(twin.axis(whole), dims)
    axes = [whole, *made]
    for side in sides:
        twin.demand_nonempty(side)
    if extra and dims[0] == extra:
        other = single(*range(n + 1, n + extra + 1))
        labels.unify(made[0], other, WHY)
        twin.unify(sides[0], twin.axis(other))
        axes.append(other)
    if len(dims) == 2 and dims[0] == dims[1] and rng.random() < 0.5:
        labels.unify(made[0], made[1], WHY)
        twin.unify(sides[0], sides[1])
    return labels, twin, axes


def exact_products(rng: np.random.Generator) -> tuple[Labels, Twin, list[Ints]]:
    """Two products of the same split, or of splits that share a chain of strides."""
    a, b, c, d = [(2, 2, 2, 2), (2, 3, 2, 3), (3, 2, 3, 2), (2, 4, 4, 2), (4, 2, 2, 4)][int(rng.integers(5))]
    labels, twin = start(a + b + c + d)
    edges = np.cumsum([1, a, b, c, d])
    x = product_rows(range(edges[0], edges[1]), range(edges[1], edges[2]))
    y = product_rows(range(edges[2], edges[3]), range(edges[3], edges[4]))
    labels.unify(x, y, WHY)
    twin.unify(twin.axis(x), twin.axis(y))
    return labels, twin, [x, y]


EXACT: dict[str, Callable[[np.random.Generator], tuple[Labels, Twin, list[Ints]]]] = {
    "singles": exact_singles,
    "bindings": exact_bindings,
    "digits": exact_digits,
    "products": exact_products,
}


@pytest.mark.parametrize("kind", EXACT)
def test_nothing_is_tied_that_need_not_be(kind: str) -> None:
    for seed in range(100):
        labels, twin, axes = EXACT[kind](np.random.default_rng(seed))
        assert reachable(labels, twin.count, axes) == twin.codes(), f"seed {seed}"


# ------------------------------------------------------------------------------------------------ sound, random


def tangle(rng: np.random.Generator) -> tuple[Labels, Twin, list[Ints]]:
    """Any rows, any operations: repeated labels, pins, empty rows, digits of digits."""
    count = int(rng.integers(3, 9))
    labels, twin = start(count)
    pool: list[tuple[Ints, npt.NDArray[np.bool_]]] = []
    for _ in range(int(rng.integers(2, 5))):
        length, width = int(rng.choice([2, 3, 4, 4, 6])), int(rng.integers(1, 3))
        made = rng.integers(0 if rng.random() < 0.3 else 1, count + 1, (length, width))
        pool.append((made, twin.axis(made)))
    for _ in range(int(rng.integers(2, 6))):
        here, alive = pool[int(rng.integers(len(pool)))]
        action = rng.random()
        if action < 0.15:
            labels.pin(here[:1], "held")
            twin.pin(alive[:, :1])
        elif action < 0.45 and len(here) in (4, 6):
            dims = [(2, 2)] if len(here) == 4 else [(2, 3), (3, 2)]
            chosen = dims[int(rng.integers(len(dims)))]
            sides = twin.digits(alive, chosen)
            for side in sides:
                twin.demand_nonempty(side)
            pool += list(zip(labels.digits(here, chosen, WHY), sides, strict=True))
        else:
            fits = [item for item in pool if len(item[0]) == len(here)]
            other, other_alive = fits[int(rng.integers(len(fits)))]
            labels.unify(here, other, WHY)
            twin.unify(alive, other_alive)
    return labels, twin, [made for made, _ in pool]


@pytest.mark.parametrize("first", range(0, 500, 100))
def test_whatever_the_labels_allow_is_right(first: int) -> None:
    for seed in range(first, first + 100):
        labels, twin, axes = tangle(np.random.default_rng(seed))
        allowed = reachable(labels, twin.count, axes)
        assert allowed <= twin.codes(), f"seed {seed}"
        assert (1 << twin.count) - 1 in allowed, f"seed {seed}"  # removing nothing is always possible


def test_saying_a_thing_twice_changes_nothing() -> None:
    for seed in range(60):
        labels, twin, axes = tangle(np.random.default_rng(seed))
        before, epoch = reachable(labels, twin.count, axes), labels.epoch
        for i, a in enumerate(axes):
            for b in axes[:i]:
                if len(a) == len(b) and alive_sets(labels, a) == alive_sets(labels, b):
                    labels.unify(a, b, WHY)
        assert (reachable(labels, twin.count, axes), labels.epoch) == (before, epoch), f"seed {seed}"


def alive_sets(labels: Labels, axis: Ints) -> list[frozenset[int]]:
    return [frozenset(row.tolist()) - {0} for row in labels.resolve(axis)]


# ------------------------------------------------------------------------------------------------ mutations


def forget_unions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Labels, "union", lambda self, a, b: None)


def forget_a_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a label stand for the first of the labels it is made of only."""

    def bind_many(self: Labels, keys: Ints, rows: Ints) -> None:
        original(self, keys, rows[:, [0, 0]])

    original = Labels.bind_many
    monkeypatch.setattr(Labels, "bind_many", bind_many)


def tie_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    def unify(self: Labels, x: Ints, y: Ints, why: str) -> None:
        original(self, x, y, why)
        if len(x) > 1:
            original(self, x[:1], x[1:2], why)

    original = Labels.unify
    monkeypatch.setattr(Labels, "unify", unify)


FAULTS = [
    (forget_unions, exact_singles),
    (tie_neighbours, exact_singles),
    (forget_a_factor, exact_digits),
]


@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=lambda each: each.__name__)
def test_the_twin_notices_a_fault(
    fault: Callable[[pytest.MonkeyPatch], None],
    kind: Callable[[np.random.Generator], tuple[Labels, Twin, list[Ints]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault(monkeypatch)
    red = 0
    for seed in range(40):
        labels, twin, axes = kind(np.random.default_rng(seed))
        red += reachable(labels, twin.count, axes) != twin.codes()
    assert red > 10


def test_the_twin_notices_a_missing_tie_among_any_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_unions(monkeypatch)
    cases = (exact_singles(np.random.default_rng(seed)) for seed in range(10))
    assert not all(reachable(labels, twin.count, axes) <= twin.codes() for labels, twin, axes in cases)
