"""N2UQ and LSQ at two bits, beside rounding without training.

That learned thresholds beat those of the start did not come out in so short a training: the guide has the numbers.
"""

import numpy as np
import pytest

from graphrewrite.passes.quant import InsertQdq
from graphrewrite.passes.quant.quantizers import Quantizer
from graphrewrite.passes.quant.quantizers.lsq import Lsq
from graphrewrite.passes.quant.quantizers.n2uq import N2uq
from tests.methods.quantized import SEEDS, changed, mean

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("quantizer", [Lsq(2), N2uq(2)], ids=str)
def test_training_with_the_rounding_beats_rounding_alone(quantizer: Quantizer) -> None:
    alone = float(np.mean([changed(InsertQdq(weight_bits=2), seed) for seed in SEEDS]))
    assert mean(quantizer) > alone + 20  # though activations have 8 bits there, and 2 here


def test_thresholds_beat_steps_where_norms_learn_too() -> None:
    assert mean(N2uq(2)) > mean(Lsq(2))
