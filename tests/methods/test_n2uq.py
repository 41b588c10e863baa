"""N2UQ at two bits: thresholds that learn beside thresholds that stay."""

import pytest

from graphrewrite.passes.quant.quantizers.n2uq import N2uq
from tests.methods.quantized import frozen, mean

pytestmark = pytest.mark.slow


def test_learned_thresholds_beat_those_of_the_start() -> None:
    assert mean(N2uq(2)) > mean(frozen(N2uq(2)))
