"""PAMS on tiny super-resolution: learned ends beside measured ones, and where the student looks."""

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


def test_learned_ends_beat_measured_ones() -> None:
    gains = [psnr(quantised(seed)) - psnr(quantised(seed, learns=False)) for seed in SEEDS]
    assert np.mean(gains) > 0, gains


def test_the_transfer_brings_the_maps_together() -> None:
    shares = [apart(quantised(seed), seed) / apart(quantised(seed, skt=False), seed) for seed in SEEDS]
    assert max(shares) < 1, shares
