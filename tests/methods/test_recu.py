"""ReCU on few digits: ahead of plain signs at the published rate, and signs that move."""

import pytest

from graphrewrite.passes.binary.binarizers.recu import Recu
from graphrewrite.passes.binary.binarizers.sign import PlainSign
from tests.methods.binary import accuracies, labelled, over_seeds


@pytest.mark.slow
def test_ahead_of_plain_signs_at_the_published_rate_and_more_signs_move() -> None:
    """At a rate of 0.1, for every seed; plain signs at 0.3 are level with it, as the guide says."""
    own, plain = (over_seeds(method, labelled(0.1)) for method in (Recu(), PlainSign()))

    assert all(one > other for one, other in zip(accuracies(own), accuracies(plain), strict=True))
    assert sum(accuracies(own)) / len(own) > sum(accuracies(plain)) / len(plain) + 3
    assert min(run.flipped for run in own) > 1.5 * max(run.flipped for run in plain)
    assert max(run.kurtosis for run in own) < min(run.kurtosis for run in plain)
