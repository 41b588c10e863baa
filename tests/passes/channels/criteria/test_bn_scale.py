"""Batch-norm scale: the mean of the absolute gains over a unit, and L1 where there is no norm."""

from collections.abc import Sequence

import numpy as np

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels.criteria import Evidence, criteria
from tests.passes.channels.nets import floats, only_group, pair


def normed(*gains: Sequence[float]) -> Model:
    """One convolution of three channels per list of gains, each normed by it, all added, then read."""
    b = Builder()
    x = b.input([1, 2, 4, 4], "x")
    total = None
    for gain in gains:
        vectors = (b.constant(floats(v)) for v in (gain, [9, 9, 9], [5, 6, 7], [1, 2, 3]))
        branch = b.op("BatchNormalization", b.conv(x, 3, 2), *vectors)
        total = branch if total is None else b.add(total, branch)
    assert total is not None
    return b.model(b.conv(total, 2, 3))


def test_bn_scale_is_the_absolute_gain() -> None:
    model = normed([0.5, -2, 1])

    score = criteria.make("bn_scale").score(only_group(model), Evidence(model))

    np.testing.assert_array_equal(score, [0.5, 2, 1])


def test_bn_scale_takes_the_mean_over_all_norms_of_a_unit() -> None:
    model = normed([0.5, -2, 1], [1.5, 4, -1])

    score = criteria.make("bn_scale").score(only_group(model), Evidence(model))

    np.testing.assert_array_equal(score, [1, 3, 1])


def test_bn_scale_of_a_group_without_a_norm_is_l1() -> None:
    model = pair(first=[[1, 2], [3, -2]], second=[[1, 2], [0, 1]])

    score = criteria.make("bn_scale").score(only_group(model), Evidence(model))

    np.testing.assert_allclose(score, [0.625, 1.375])
