"""Searched masks over frozen weights beside the magnitude mask and a random one, both with norms measured anew."""

from functools import lru_cache

import numpy as np
import pytest

from graphrewrite.bridge.recalibrate import recalibrated
from graphrewrite.ir import Model
from graphrewrite.passes.sparse import MaskBlocks
from graphrewrite.passes.sparse.layers import layers_of
from graphrewrite.passes.sparse.masks.lottery_jackpot import LotteryJackpot
from graphrewrite.pipeline import Context
from tests.methods.residual import accuracy, trained, training

pytestmark = pytest.mark.slow

SEEDS = range(5)
SPARSITY = 0.95


@lru_cache
def masked(start: str, epochs: int, seed: int) -> Model:
    """Return the trained net of a seed under a mask of 95 % zeros, layers sharing them by magnitude."""
    mask = LotteryJackpot(epochs, start=start)  # type: ignore[arg-type]
    step = MaskBlocks(mask, SPARSITY, scope="global")
    return step.run(trained(seed).clone(), Context(data=training(), seed=seed)).model


def kept(model: Model) -> np.ndarray:
    """Return for all masked weights together which are not zero."""
    middle = list(layers_of(model))[1:-1]
    return np.concatenate([(model.weights[layer.weight] != 0).ravel() for layer in middle])


def test_the_search_beats_the_magnitude_mask_and_chance() -> None:
    rows = []
    for seed in SEEDS:
        starts = [recalibrated(masked(start, 0, seed), training()) for start in ("magnitude", "random")]
        rows.append([accuracy(model) for model in (masked("magnitude", 4, seed), *starts)])
    searched, magnitude, random = np.array(rows).T

    assert (searched > magnitude).all(), rows
    assert (magnitude > random).all(), rows
    assert searched.mean() > magnitude.mean() + 20, rows


def test_the_mask_moved_and_is_no_chance() -> None:
    """Of what the magnitude mask keeps far more than one in twenty is still kept, and not all."""
    shares = []
    for seed in SEEDS:
        searched, magnitude = kept(masked("magnitude", 4, seed)), kept(masked("magnitude", 0, seed))
        assert searched.sum() == magnitude.sum()
        shares.append(float(searched[magnitude].mean()))
    assert all(5 * (1 - SPARSITY) < share < 0.9 for share in shares), shares
