"""LSQ at two bits: steps that learn beside steps that stay."""

import pytest

from graphrewrite.passes.quant.quantizers.lsq import Lsq
from tests.methods.quantized import frozen, mean

pytestmark = pytest.mark.slow


def test_learned_steps_beat_those_of_the_start() -> None:
    assert mean(Lsq(2)) > mean(frozen(Lsq(2)))
