"""Geometric median: the sum of the distances from a filter to all others of the group."""

import numpy as np

from graphrewrite.passes.channels.criteria import Evidence, criteria
from tests.passes.channels.nets import floats, only_group, pair


def test_the_filter_in_the_middle_of_a_line_scores_lowest() -> None:
    model = pair(first=[[0, 0], [3, 4], [6, 8]], second=[[1, 1, 1]])

    # Distances 5 + 10, 5 + 5, 10 + 5; divided by their mean, 40 / 3.
    score = criteria.make("geometric_median").score(only_group(model), Evidence(model))

    np.testing.assert_allclose(score, [1.125, 0.75, 1.125], rtol=1e-6)


def test_equal_filters_score_zero() -> None:
    model = pair(first=[[0.1, 0.7]] * 3, second=[[1, 2, 3]])

    score = criteria.make("geometric_median").score(only_group(model), Evidence(model))

    np.testing.assert_allclose(score, [0, 0, 0], atol=1e-6)


def test_the_sums_are_those_of_two_loops() -> None:
    rng = np.random.default_rng(3)
    filters = floats(rng.standard_normal((13, 5)))
    model = pair(first=filters, second=rng.standard_normal((2, 13)))

    score = criteria.make("geometric_median").score(only_group(model), Evidence(model))

    wide = filters.astype(np.float64)
    loop = np.array([sum(np.sqrt(((a - b) ** 2).sum()) for b in wide) for a in wide])
    np.testing.assert_allclose(score, loop / loop.mean(), rtol=1e-6)
