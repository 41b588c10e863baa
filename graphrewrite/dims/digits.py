"""Seeing one axis as several: a label that varies along several digits becomes a product of labels of the digits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import gcd, prod
from typing import TYPE_CHECKING

import numpy as np

from graphrewrite.errors import ShapeError

if TYPE_CHECKING:
    from graphrewrite.dims.labels import Ints, Labels


def split(labels: Labels, rows: Ints, dims: Sequence[int], why: str) -> list[Ints]:
    """See an axis of length prod(dims) as several axes; return rows for each.

    A label that varies along several digits is expanded into a product of one fresh label per digit position, so
    that the kept positions stay a rectangle. A pinned cell pins its row and column.
    """
    sizes = [int(d) for d in dims]
    if prod(sizes) != len(rows):
        raise ShapeError(
            f"an axis of length {len(rows)} cannot be split into {sizes} ({why}); this is a defect of a rule"
        )
    if len(sizes) == 1:
        return [rows]
    for _ in range(64):
        flat = labels.columns(rows)
        cube = flat.reshape(*sizes, flat.shape[1])
        varies = _varies(cube)
        wide = next((column for column, along in enumerate(varies) if len(along) > 1), None)
        if wide is None:
            break
        _expand_column(labels, cube[..., wide], varies[wide], why)
    else:
        labels.pin(rows, f"{why}: split too entangled to express")
        flat = labels.columns(rows)
        cube = flat.reshape(*sizes, flat.shape[1])
        varies = _varies(cube)
    result = []
    for axis, size in enumerate(sizes):
        columns = []
        corner = [0] * len(sizes)
        for column, along in enumerate(varies):
            if not along and axis == 0 and flat[0, column]:
                labels.pin(flat[:1, column : column + 1], f"{why}: one unit covers the whole axis")
            if axis in along:
                index: list[int | slice] = list(corner)
                index[axis] = slice(None)
                columns.append(cube[(*index, column)])
        result.append(np.stack(columns, axis=1) if columns else np.zeros((size, 1), dtype=np.int64))
    return result


def _expand_column(labels: Labels, cube: Ints, along: list[int], why: str) -> None:
    corner = tuple(slice(None) if axis in along else 0 for axis in range(cube.ndim))
    plane = cube[corner]
    if (
        np.broadcast_to(np.expand_dims(plane, [a for a in range(cube.ndim) if a not in along]), cube.shape)
        != cube
    ).any():
        labels.pin(cube.reshape(-1, 1), f"{why}: split too entangled to express")
        return
    factors = [labels.fresh(plane.shape[axis])[:, 0] for axis in range(plane.ndim)]
    grid = np.stack([g.ravel() for g in np.meshgrid(*factors, indexing="ij")], axis=1)  # [cells, digits]
    cells = plane.ravel()
    fixed = (cells == 0) | (labels.pin_number(cells) > 0)
    if np.count_nonzero(fixed):
        marks = labels.pin_number(cells[fixed])
        number = (
            int(marks[marks > 0][0])
            if (marks > 0).any()
            else labels.reason(f"{why}: rectangle holds a pinned cell")
        )
        labels.pin(grid[fixed], number)
    keys, first, inverse = np.unique(cells, return_index=True, return_inverse=True)
    leaders = grid[first][inverse]
    moved = (leaders != grid) & ~fixed[:, None]
    if np.count_nonzero(moved):  # the same label in several cells: those rows and columns are the same
        labels.union(labels.find(leaders[moved]), labels.find(grid[moved]))
    free = ~fixed[first]
    labels.bind_many(keys[free], grid[first[free]])


def _varies(cube: Ints) -> list[list[int]]:
    """Return for each column, the last axis of a cube, along which of the others it varies."""
    digits = tuple(range(cube.ndim - 1))
    along: list[list[int]] = [[] for _ in range(cube.shape[-1])]
    for axis in digits:
        if cube.shape[axis] > 1:
            first = cube[(slice(None),) * axis + (slice(1),)]
            for column in np.flatnonzero((cube != first).any(axis=digits)).tolist():
                along[column].append(axis)
    return along


def interval(column: Ints) -> tuple[int, int]:
    """Return [run, period): the column depends only on (i // run) % (period // run)."""
    n = len(column)
    steps = np.flatnonzero(column[1:] != column[:-1]) + 1
    if not len(steps):
        return 1, 1
    run = reduce(gcd, (int(s) for s in np.unique(steps)), n)
    period = n
    for candidate in sorted(d for d in range(run, n + 1, run) if n % d == 0):
        if (column.reshape(-1, candidate) == column[:candidate]).all():
            period = candidate
            break
    return run, period
