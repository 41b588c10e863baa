"""Fitting W ~ after . synthesis . middle . permutation . analysis . before to a matrix, the two transforms given.

Every diagonal alone is a least-squares problem with a closed solution, so they take turns. The permutation is matched
first: coefficient c of the synthesis is fed by the analysis' coefficient that explains most of W, all pairs at once (an
assignment problem).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import linear_sum_assignment

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# Beside the mean of the diagonal: overlapping bands make the coefficients of a frame dependent.
_RIDGE = 1e-9


class Diagonals(NamedTuple):
    """What is fitted: diagonals of [in], [coefficients] and [out], and the permutation between the transforms."""

    before: Floats
    permutation: Indices
    middle: Floats
    after: Floats


def fit(
    weight: Floats, analysis: Floats, synthesis: Floats, rounds: int, permutation: Indices | None = None
) -> Diagonals:
    """Return the fit to `weight` [in, out] after so many rounds.

    `analysis` is [in, coefficients], `synthesis` [coefficients, out]: what each unit vector becomes. A given
    `permutation` stays; coefficient i of the synthesis is coefficient permutation[i] of the analysis.
    """
    if permutation is None:
        permutation = matched(weight, analysis, synthesis)
    chosen = analysis[:, permutation]
    before, after = np.ones(len(weight)), np.ones(weight.shape[1])
    middle = _middle(weight, chosen, synthesis, before, after)
    for _ in range(rounds):
        product = (chosen * middle) @ synthesis
        after = _along(weight, product * before[:, None], 0, after)
        before = _along(weight, product * after, 1, before)
        middle = _middle(weight, chosen, synthesis, before, after)
    return Diagonals(before, permutation, middle, after)


def matched(weight: Floats, analysis: Floats, synthesis: Floats) -> Indices:
    """Return the permutation whose pairs of coefficients explain most of `weight`, each pair on its own."""
    shares = (synthesis @ weight.T @ analysis) ** 2
    shares /= np.maximum((synthesis**2).sum(axis=1), 1e-30)[:, None]
    shares /= np.maximum((analysis**2).sum(axis=0), 1e-30)
    return np.asarray(linear_sum_assignment(shares, maximize=True)[1], np.int64)


def _along(weight: Floats, product: Floats, axis: int, before: Floats) -> Floats:
    """Return the factor per row or column that brings `product` closest to `weight`; what meets only zeros stays."""
    energy = (product**2).sum(axis=axis)
    return np.where(energy > 0, (weight * product).sum(axis=axis) / np.where(energy > 0, energy, 1), before)


def _middle(weight: Floats, analysis: Floats, synthesis: Floats, before: Floats, after: Floats) -> Floats:
    left, right = analysis * before[:, None], synthesis * after
    normal = (left.T @ left) * (right @ right.T)
    wanted = np.einsum("ic,ic->c", left, weight @ right.T)
    normal[np.diag_indices_from(normal)] += _RIDGE * max(np.trace(normal) / len(normal), 1e-30)
    return np.asarray(cho_solve(cho_factor(normal, overwrite_a=True), wanted))
