"""L1: absolute weights of the filters and of the slices that read them, each tensor divided by its mean."""

import numpy as np

from graphrewrite.passes.channels.criteria import Evidence, criteria
from tests.passes.channels.nets import only_group, pair


def test_l1_adds_the_shares_of_what_makes_a_unit_and_of_what_reads_it() -> None:
    model = pair(first=[[1, 2], [3, -2]], second=[[1, 2], [0, 1]])

    # Made by 3 and 5 (mean 4), read by 1 and 3 (mean 2): (0.75 + 0.5) / 2 and (1.25 + 1.5) / 2.
    score = criteria.make("l1").score(only_group(model), Evidence(model))

    np.testing.assert_allclose(score, [0.625, 1.375])


def test_l1_does_not_look_at_biases() -> None:
    bare = pair(first=[[1, 2], [3, -2]], second=[[1, 2], [0, 1]])
    biased = pair(first=[[1, 2], [3, -2]], second=[[1, 2], [0, 1]], bias=[100, -7])

    one, two = (criteria.make("l1").score(only_group(m), Evidence(m)) for m in (bare, biased))

    np.testing.assert_array_equal(one, two)
