"""PAMS on tiny super-resolution: what is left of a net in four bits, and where the student looks."""

from functools import lru_cache

import numpy as np
import pytest

from graphrewrite.bridge import Optimiser, Recipe, Stage
from graphrewrite.bridge.losses import Loss
from graphrewrite.ir import Model
from graphrewrite.passes.losses.mse import Mse
from graphrewrite.passes.losses.skt import StructuredKnowledgeTransfer
from graphrewrite.passes.quant.quantizers.pams import Pams
from graphrewrite.passes.recipes.qat import QuantizeAware
from graphrewrite.passes.train import FineTune
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run
from tests.methods.pictures import BODY, low, patches, psnr, taught, training

pytestmark = pytest.mark.slow

SEEDS = range(3)
EPOCHS = 8


@lru_cache
def quantised(seed: int, learns: bool = True, skt: bool = True) -> Model:
    """Return a net whose body has 4 bits, shortcuts included, after a training, also of ends if it learns."""
    quantizer = Pams(4, warmup=1 / EPOCHS, transform_rate=10.0 if learns else 0.0)
    losses: tuple[Loss, ...] = (Mse(),)
    if skt:
        losses += (StructuredKnowledgeTransfer({BODY: BODY}, weight=1.0),)
    recipe = Recipe((Stage(EPOCHS, 0.001, losses),), Optimiser("adam"), batch=16)
    step = QuantizeAware(quantizer, FineTune(recipe), between_bits=4, only=("body.*",))
    context = Context(data=training(), seed=seed)
    return Pipeline([step], verify="structure").run(taught(seed), context).model


def apart(model: Model, seed: int) -> float:
    """Return how far a net's map of where it looks is from its teacher's."""
    feeds = {"low": low(patches()[1])}
    student, teacher = (
        np.asarray(run(each, feeds, [BODY])[BODY], np.float64) for each in (model, taught(seed))
    )
    maps = []
    for values in (student, teacher):
        strength = np.square(values).mean(axis=1).reshape(len(values), -1)
        maps.append(strength / np.linalg.norm(strength, axis=1, keepdims=True))
    return float(np.square(maps[0] - maps[1]).mean())


def test_a_body_of_four_bits_is_still_worth_its_while() -> None:
    # Learned ends come out 0.04 dB above measured ones, and below on one seed of three: that is in the guide, not here.
    found = float(np.mean([psnr(quantised(seed)) for seed in SEEDS]))
    large = patches()[1]
    plain = low(large).repeat(2, axis=2).repeat(2, axis=3)
    assert found > -10 * np.log10(np.square(plain - large).mean()) + 0.3


def test_the_transfer_brings_the_maps_together() -> None:
    shares = [apart(quantised(seed), seed) / apart(quantised(seed, skt=False), seed) for seed in SEEDS]
    assert max(shares) < 1, shares
