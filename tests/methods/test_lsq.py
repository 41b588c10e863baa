"""LSQ at two bits: steps that learn beside steps that stay, and beside rounding without training."""

import numpy as np
import pytest

from graphrewrite.passes.quant import InsertQdq
from graphrewrite.passes.quant.quantizers.lsq import Lsq
from tests.methods.quantized import SEEDS, changed, frozen, mean

pytestmark = pytest.mark.slow


def test_learned_steps_beat_those_of_the_start() -> None:
    assert mean(Lsq(2)) > mean(frozen(Lsq(2)))


def test_training_with_the_rounding_beats_rounding_alone() -> None:
    alone = float(np.mean([changed(InsertQdq(weight_bits=2), seed) for seed in SEEDS]))
    assert mean(Lsq(2)) > alone + 20  # though activations have 8 bits there, and 2 here
