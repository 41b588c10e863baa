"""Random chains of reshapes and transposes: labels against element numbers that numpy carries along."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.dims import axes as module
from graphrewrite.dims.axes import (
    Axis,
    Digit,
    Pair,
    Rigid,
    Rows,
    digit_rows,
    of_rows,
    permutation,
    rigid,
    rows_of,
    tie_axes,
)
from graphrewrite.dims.labels import Labels
from graphrewrite.dims.reshape import reshape
from tests.engine.dims.twin import Bools, free_terminals, subsets

Ints = npt.NDArray[np.int64]
WHY = "test"


# ------------------------------------------------------------------------------------- chains, against numpy


@dataclass
class Chain:
    """A tensor on its way through reshapes and transposes, with the number of every element in both worlds."""

    labels: Labels
    sources: list[Axis]
    axes: list[Axis]
    numbers: tuple[Ints, Ints]
    resolved: dict[int, Ints] = field(default_factory=dict)

    @classmethod
    def of(cls, labels: Labels, axes: Sequence[Axis]) -> "Chain":
        shapes = [[axis.sizes[world] for axis in axes] for world in (0, 1)]
        numbers = [np.arange(int(np.prod(shape))).reshape(shape) for shape in shapes]
        return cls(labels, list(axes), list(axes), (numbers[0], numbers[1]))

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Chain":
        """Start from one or two labelled axes among rigid ones, the first of which may be dynamic."""
        labels = Labels()
        axes = []
        for size in rng.permutation([int(rng.choice([4, 6, 8])), *([2] if rng.random() < 0.4 else [])]):
            axes.append(of_rows(labels.fresh(int(size))))
        for _ in range(int(rng.integers(0, 3))):
            axes.insert(int(rng.integers(len(axes) + 1)), rigid(int(rng.choice([1, 2, 3]))))
        if rng.random() < 0.5:
            axes.insert(0, rigid((2, 3)))
        return cls.of(labels, axes)

    def step(self, rng: np.random.Generator) -> None:
        if rng.random() < 0.4:
            order = [int(i) for i in rng.permutation(len(self.axes))]
            self.axes = [self.axes[i] for i in order]
            self.numbers = (self.numbers[0].transpose(order), self.numbers[1].transpose(order))
            return
        self.reshape(self._target(rng))

    def reshape(self, target: Sequence[Pair]) -> None:
        self.axes = reshape(self.labels, self.axes, target, WHY)
        self.numbers = (
            self.numbers[0].reshape([a for a, _ in target]),
            self.numbers[1].reshape([b for _, b in target]),
        )

    def _target(self, rng: np.random.Generator) -> list[Pair]:
        """Merge some neighbours and split some axes."""
        sizes = [axis.sizes for axis in self.axes]
        merged: list[Pair] = []
        for a, b in sizes:
            if merged and rng.random() < 0.35:
                merged[-1] = (merged[-1][0] * a, merged[-1][1] * b)
            else:
                merged.append((a, b))
        result: list[Pair] = []
        for a, b in merged:
            divisors = [d for d in range(2, a) if a % d == 0 and b % d == 0]
            if divisors and rng.random() < 0.6:
                d = int(rng.choice(divisors))
                result += (
                    [(d, d), (a // d, b // d)]
                    if a == b and rng.random() < 0.5
                    else [(a // d, b // d), (d, d)]
                )
            else:
                result.append((a, b))
        return result

    def alive(self, world: int, axes: Sequence[Axis], dead: set[int]) -> Bools:
        """Return which elements are alive, from the rows of these axes."""
        result = np.ones((), dtype=bool)
        for axis in axes:
            result = np.logical_and.outer(result, self.rows_alive(world, axis, dead))
        return np.asarray(result)

    def rows_alive(self, world: int, axis: Axis, dead: set[int]) -> Bools:
        result = np.ones(1, dtype=bool)
        for factor in axis.factors:
            if isinstance(factor, Rigid):
                block: Bools = np.ones(factor.sizes[world], dtype=bool)
            else:
                if id(factor) not in self.resolved:
                    rows = factor.labels if isinstance(factor, Rows) else digit_rows(self.labels, factor, WHY)
                    self.resolved[id(factor)] = self.labels.resolve(rows)
                block = np.asarray(~np.isin(self.resolved[id(factor)], sorted(dead)).any(axis=1))
            result = np.logical_and.outer(result, block).ravel()
        return result

    def free(self) -> list[int]:
        found = {
            unit
            for axis in self.sources
            if not axis.is_rigid
            for unit in free_terminals(self.labels, rows_of(self.labels, axis, WHY))
        }
        return sorted(found)

    def settle(self) -> None:
        """Refine what is still open, as the end of an analysis does."""
        for axis in self.axes:
            for digit in axis.digits:
                digit_rows(self.labels, digit, WHY)


def follow(seed: int) -> Chain:
    rng = np.random.default_rng(seed)
    chain = Chain.draw(rng)
    for _ in range(int(rng.integers(1, 6))):
        chain.step(rng)
    chain.settle()
    return chain


def broken(chain: Chain) -> str:
    """Return what is wrong with a chain: an element whose life differs from that of the one it came from."""
    free = chain.free()
    chosen = np.concatenate(
        [~np.eye(len(free), dtype=bool), np.random.default_rng(0).random((12, len(free))) < 0.6]
    )
    for row in chosen:
        dead = {unit for unit, lives in zip(free, row, strict=True) if not lives}
        for world in (0, 1):
            before = chain.alive(world, chain.sources, dead).ravel()
            after = chain.alive(world, chain.axes, dead)
            if after.shape != chain.numbers[world].shape:
                return f"shape {after.shape}, expected {chain.numbers[world].shape}"
            if (before[chain.numbers[world]] != after).any():
                return f"dead {dead} in world {world}: elements changed their life"
    return ""


@pytest.mark.parametrize("first", range(0, 500, 100))
def test_every_element_lives_as_the_one_it_came_from(first: int) -> None:
    for seed in range(first, first + 100):
        assert not broken(follow(seed)), f"seed {seed}"


def rectangles(chain: Chain) -> int:
    """Count the ways of keeping labels of the sources for which what is alive of the result is a non-empty product."""
    sizes = [len(f.labels) for axis in chain.sources for f in axis.factors if isinstance(f, Rows)]
    chosen = subsets(sum(sizes))
    count = 0
    for row in chosen:
        parts = iter(np.split(row, np.cumsum(sizes)[:-1]))
        result = np.ones((), dtype=bool)
        for axis in chain.sources:
            side = np.ones(axis.sizes[0], dtype=bool) if axis.is_rigid else next(parts)
            result = np.logical_and.outer(result, side)
        after = result.ravel()[chain.numbers[0]]
        box = np.ones((), dtype=bool)
        for number in range(after.ndim):
            box = np.logical_and.outer(
                box, after.any(axis=tuple(k for k in range(after.ndim) if k != number))
            )
        count += bool(after.any() and (box == after).all())
    return count


def allowed(chain: Chain) -> int:
    """Count the ways of keeping source labels that the labels allow, none of the axes of the result empty."""
    free = chain.free()
    seen = set()
    for row in subsets(len(free)):
        dead = {unit for unit, lives in zip(free, row, strict=True) if not lives}
        if chain.alive(0, chain.axes, dead).any():
            seen.add(chain.alive(0, chain.sources, dead).tobytes())
    return len(seen)


def is_promised(chain: Chain) -> bool:
    """Tell whether nothing too many may be tied.

    Blocks of the sources are split along strides that fit each other and nothing is pinned (else an axis is refined
    cell by cell), and no axis of the result holds two digits of one block out of order (they are refined one by one).
    """
    known = {id(f.labels) for axis in chain.sources for f in axis.factors if isinstance(f, Rows)}
    for axis in chain.axes:
        digits = [f for f in axis.factors if isinstance(f, Digit)]
        if (
            len({id(f.joint) for f in digits}) < len(digits)
            or not {id(f.joint.labels) for f in digits} <= known
        ):
            return False
        rows = [f for f in axis.factors if isinstance(f, Rows)]
        if not {id(f.shuffled.labels if f.shuffled else f.labels) for f in rows} <= known:
            return False
    return len(chain.labels.reasons) == 1


def test_reshapes_tie_nothing_that_could_be_kept_apart() -> None:
    compared = tied = 0
    for seed in range(250):
        chain = follow(seed)
        labelled = sum(len(f.labels) for axis in chain.sources for f in axis.factors if isinstance(f, Rows))
        if not is_promised(chain) or labelled > 8:
            continue
        assert allowed(chain) == rectangles(chain), f"seed {seed}"
        compared += 1
        tied += len(chain.free()) < labelled
    assert compared > 60 and tied > 12


def split_of(total: int, rng: np.random.Generator) -> list[int]:
    """Write a number as a product in a random way."""
    sizes = []
    while total > 1:
        size = int(rng.choice([d for d in range(2, total + 1) if total % d == 0]))
        sizes.append(size)
        total //= size
    return sizes


def test_two_tensors_of_one_shape_are_tied_axis_by_axis() -> None:
    free_ones = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        labels = Labels()
        target = [(2, 3), *((size, size) for size in split_of(24, rng))]
        a, b = (
            Chain.of(
                labels,
                [
                    rigid((2, 3)),
                    *(
                        of_rows(labels.fresh(n)) if rng.random() < 0.8 else rigid(n)
                        for n in split_of(24, rng)
                    ),
                ],
            )
            for _ in range(2)
        )
        for chain in (a, b):
            chain.reshape(target)
        for x, y in zip(a.axes, b.axes, strict=True):
            tie_axes(labels, x, y, WHY)
        for chain in (a, b):
            chain.settle()
        free = sorted({*a.free(), *b.free()})
        free_ones += bool(free)
        for row in np.random.default_rng(1).random((8, len(free))) < 0.6:
            dead = {unit for unit, lives in zip(free, row, strict=True) if not lives}
            for x, y in zip(a.axes, b.axes, strict=True):
                for world in (0, 1):
                    assert (a.rows_alive(world, x, dead) == b.rows_alive(world, y, dead)).all(), (
                        f"seed {seed}"
                    )
        assert not broken(a) and not broken(b), f"seed {seed}"
    assert free_ones > 20


# ------------------------------------------------------------------------------------------------ mutations


def test_the_element_numbers_notice_a_shuffle_in_the_wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(digits: Sequence[Digit]) -> Ints | None:
        order = permutation(digits)
        return None if order is None else np.argsort(order)

    monkeypatch.setattr(module, "permutation", wrong)
    assert any(broken(follow(seed)) for seed in range(200))


def test_the_element_numbers_notice_labels_spread_in_the_wrong_direction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(
        factor: Rigid | Rows | Digit, lead: Pair
    ) -> tuple[Rigid | Rows | Digit, Rigid | Rows | Digit] | None:
        pieces = split(factor, lead)
        swapped = pieces is not None and isinstance(pieces[0], Digit) and pieces[0].sizes == pieces[1].sizes
        return (pieces[1], pieces[0]) if pieces is not None and swapped else pieces

    split = module._split
    monkeypatch.setattr(module, "_split", wrong)
    assert sum(bool(broken(follow(seed))) for seed in range(100)) > 5


def test_the_count_of_rectangles_notices_a_tie_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(digits: Sequence[Digit]) -> Rows | None:
        return None  # a complete set of digits is not recognised: the block becomes a product

    monkeypatch.setattr(module, "_whole", wrong)
    different = 0
    for seed in range(60):
        chain = follow(seed)
        if len(chain.free()) <= 8:
            different += allowed(chain) < rectangles(chain)
    assert different > 2
