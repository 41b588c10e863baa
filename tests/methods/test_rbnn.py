"""RBNN on few digits: it learns and moves half of the signs; that it beats plain signs did not hold."""

import pytest

from graphrewrite.passes.binary.binarizers.rbnn import Rbnn
from graphrewrite.passes.binary.binarizers.sign import PlainSign
from tests.methods.binary import accuracies, labelled, over_seeds


@pytest.mark.slow
def test_it_learns_and_far_more_signs_flip_than_without_rotation() -> None:
    """At a rate of 0.1 it is level with plain signs; at 0.3 it is behind them, as the guide says."""
    own, plain = (over_seeds(method, labelled(0.1)) for method in (Rbnn(), PlainSign()))

    assert min(accuracies(own)) > 70
    assert min(run.flipped for run in own) > 0.4 > 0.3 > max(run.flipped for run in plain)
    assert max(run.kept for run in own) < min(run.kept for run in plain)
