"""What decay does to signs under Adam, as the analysis behind `adam_bnn` has it; and that its two steps learn.

That Adam beats SGD, and two steps one, is within the spread here; the guide has the numbers.
"""

import pytest

from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.passes.binary.binarizers.react import React
from tests.methods.binary import accuracies, labelled, over_seeds, two_steps


@pytest.mark.slow
def test_decay_makes_signs_restless_and_lets_them_leave_where_they_began() -> None:
    still, decaying = (
        over_seeds(React(), labelled(0.005, Optimiser("adam", {"weight_decay": decay})), "Relu", seeds=3)
        for decay in (0.0, 0.01)
    )

    assert all(one.restless > other.restless for one, other in zip(decaying, still, strict=True))
    assert all(one.kept < other.kept for one, other in zip(decaying, still, strict=True))


@pytest.mark.slow
def test_two_steps_learn() -> None:
    assert min(accuracies(over_seeds(React(), two_steps(0.02), "Relu", seeds=3))) > 80
