"""LSQ at two bits: steps that learn beside steps that stay, and norms that learn beside norms that were folded."""

import pytest

from graphrewrite.passes.quant.quantizers.lsq import Lsq
from tests.methods.quantized import frozen, mean

pytestmark = pytest.mark.slow


def test_learned_steps_beat_those_of_the_start() -> None:
    assert mean(Lsq(2)) > mean(frozen(Lsq(2)))


def test_norms_that_learn_beat_norms_that_were_folded_before() -> None:
    assert mean(Lsq(2)) > mean(Lsq(2), folded=True) + 5
