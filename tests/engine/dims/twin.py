"""A slow twin of the label algebra: it tries every way of keeping and removing the base labels.

`Twin` knows nothing of unions, products or digits. It holds one row per assignment (which base labels are alive), the
alive positions of every axis under it, and crosses out the assignments that break a demand. What is left is exactly
what may happen; `reachable` says what `Labels` allows. Both leave out assignments that empty an axis, since no cut may.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from graphrewrite.dims.labels import Labels

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def subsets(count: int) -> Bools:
    """Return every assignment of `count` labels, [2 ** count, count]."""
    return np.array(list(product([False, True], repeat=count)), dtype=bool).reshape(2**count, count)


class Twin:
    """All assignments of base labels 1..count that meet what was demanded so far."""

    def __init__(self, count: int) -> None:
        self.count = count
        chosen = subsets(count)
        self.alive: Bools = np.concatenate([np.ones((len(chosen), 1), dtype=bool), chosen], axis=1)
        self.valid: Bools = np.ones(len(chosen), dtype=bool)

    def axis(self, rows: Ints) -> Bools:
        """Return the alive positions of an axis with these rows of base labels, [assignments, positions]."""
        axis = np.asarray(self.alive[:, rows].all(axis=2))
        self.demand_nonempty(axis)
        return axis

    def demand_nonempty(self, axis: Bools) -> None:
        self.valid &= axis.any(axis=1)

    def unify(self, a: Bools, b: Bools) -> None:
        self.valid &= (a == b).all(axis=1)

    def pin(self, axis: Bools) -> None:
        self.valid &= axis.all(axis=1)

    def digits(self, axis: Bools, dims: Sequence[int]) -> list[Bools]:
        """Demand that what is alive is a rectangle; return its sides."""
        cube = axis.reshape(len(axis), *dims)
        sides = []
        for number in range(len(dims)):
            others = tuple(k + 1 for k in range(len(dims)) if k != number)
            sides.append(np.asarray(cube.any(axis=others)))
        rectangle = np.ones(cube.shape, dtype=bool)
        for number, side in enumerate(sides):
            shape = [len(axis)] + [1] * len(dims)
            shape[number + 1] = dims[number]
            rectangle &= side.reshape(shape)
        self.valid &= (rectangle == cube).all(axis=tuple(range(1, cube.ndim)))
        return sides

    def codes(self) -> set[int]:
        """Return the assignments left, each as one number."""
        return _codes(self.alive[self.valid, 1:])


def free_terminals(labels: Labels, rows: Ints) -> list[int]:
    """Return the free labels that everything in these rows comes down to."""
    flat = np.unique(labels.resolve(np.unique(rows)[:, None]))
    return [int(label) for label in flat if label and labels.pin_number(np.array([label]))[0] == 0]


def reachable(labels: Labels, count: int, axes: Sequence[Ints]) -> set[int]:
    """Return the assignments of base labels 1..count that `labels` allows, as numbers, none of `axes` empty."""
    every = [*axes, np.arange(count + 1)[:, None]]
    free = sorted({label for rows in every for label in free_terminals(labels, rows)})
    assert len(free) <= 14, "the case is too large to try everything"
    chosen = subsets(len(free))
    valid = np.ones(len(chosen), dtype=bool)
    for rows in axes:
        valid &= _alive(labels, rows, free, chosen).any(axis=1)
    base = _alive(labels, np.arange(1, count + 1)[:, None], free, chosen)
    return _codes(base[valid])


def alive_under(labels: Labels, rows: Ints, dead: set[int]) -> Bools:
    """Return the alive positions of an axis when these free labels are dead."""
    return np.asarray(~np.isin(labels.resolve(rows), sorted(dead)).any(axis=1))


def _alive(labels: Labels, rows: Ints, free: Sequence[int], chosen: Bools) -> Bools:
    place = {label: number for number, label in enumerate(free)}
    columns = np.concatenate([chosen, np.ones((len(chosen), 1), dtype=bool)], axis=1)
    resolved = labels.resolve(rows)
    index = np.array([[place.get(int(label), len(free)) for label in row] for row in resolved])
    return np.asarray(columns[:, index].all(axis=2))


def _codes(assignments: Bools) -> set[int]:
    weights = 1 << np.arange(assignments.shape[1], dtype=np.int64)
    return {int(code) for code in assignments.astype(np.int64) @ weights}
