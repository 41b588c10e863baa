"""Frequent Directions: a few rows whose second moments are close to those of many, one row at a time."""

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import InvalidConfig

Floats = npt.NDArray[np.float64]


def frequent_directions(rows: Floats, count: int) -> Floats:
    """Return a sketch B [count, numbers] of A = `rows` [rows, numbers] (Liberty, 2013; Ghashami et al., 2016).

    A^T A - B^T B is positive semidefinite, and its largest eigenvalue at most 2 |A|_F^2 / count; B^T B is A^T A when A
    has a rank below count / 2. Rows fill the sketch; when it is full, the squared singular values lose the middle one
    among them, which empties half of it. No row is left out.

    Raises:
        InvalidConfig: `count` is below 1.
    """
    if count < 1:
        raise InvalidConfig(f"a sketch of {count} rows was asked for; expected at least 1; ask for more")
    sketch, filled = np.zeros((count, rows.shape[1])), 0
    for row in np.asarray(rows, dtype=np.float64):
        if filled == count:
            _, values, directions = np.linalg.svd(sketch, full_matrices=False)
            middle = values[count // 2] if count // 2 < len(values) else 0.0
            left = np.sqrt(np.maximum(np.square(values) - middle**2, 0))
            filled = min(count // 2, len(values))
            sketch[:] = 0
            sketch[:filled] = left[:filled, None] * directions[:filled]
        sketch[filled] = row
        filled += 1
    return sketch
