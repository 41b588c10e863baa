"""SiMaN on few digits: not behind plain signs at the better of their rates, and weights that stay flat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from graphrewrite.passes.binary.binarizers.sign import PlainSign
from graphrewrite.passes.binary.binarizers.siman import Siman
from tests.methods.binary import accuracies, labelled, over_seeds, trained


@dataclass(frozen=True)
class Decaying(Siman):
    """SiMaN with the decay that it leaves out."""

    def undecayed(self, binary: Sequence[str], ranks: Mapping[str, int]) -> tuple[str, ...]:
        """Spare nothing."""
        return ()


@pytest.mark.slow
def test_not_behind_plain_signs_whose_rate_was_tuned() -> None:
    own, plain = over_seeds(Siman(), labelled(0.1)), over_seeds(PlainSign(), labelled(0.3))

    assert sum(accuracies(own)) >= sum(accuracies(plain))
    assert max(run.kurtosis for run in own) < min(run.kurtosis for run in plain)
    assert min(run.flipped for run in own) > max(run.flipped for run in plain)


@pytest.mark.slow
def test_weights_are_flat_because_ends_are_drawn_in_whatever_decays() -> None:
    """The paper expects decay to peak them; in so few steps it does not matter."""
    drawn = [trained(method, 0, labelled(0.1)).kurtosis for method in (Siman(), Decaying())]
    free = [
        trained(method, 0, labelled(0.1)).kurtosis for method in (Siman(percent=0.0), Decaying(percent=0.0))
    ]

    assert max(drawn) < 2.5 < 3.0 < min(free)
