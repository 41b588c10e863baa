"""L2: Euclidean length of the filters and of the slices that read them, each tensor divided by its mean."""

import numpy as np

from graphrewrite.passes.channels.criteria import Evidence, criteria
from tests.passes.channels.nets import only_group, pair


def test_l2_adds_the_shares_of_what_makes_a_unit_and_of_what_reads_it() -> None:
    model = pair(first=[[3, 4], [0, -10]], second=[[0, 9], [-3, 0]])

    # Made by 5 and 10 (mean 7.5), read by 3 and 9 (mean 6): (2/3 + 1/2) / 2 and (4/3 + 3/2) / 2.
    score = criteria.make("l2").score(only_group(model), Evidence(model))

    np.testing.assert_allclose(score, [7 / 12, 17 / 12])
