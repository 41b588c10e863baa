"""1xN blocks beside single weights and whole filters, under equally many zeros and equally long training."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest

from graphrewrite.passes.sparse import MaskBlocks, TrainSparse
from graphrewrite.passes.sparse.masks import Floats, Kept, Mask
from graphrewrite.passes.sparse.masks.magnitude import Magnitude
from graphrewrite.passes.sparse.masks.one_by_n import OneByN
from graphrewrite.pipeline import Context
from tests.methods.residual import accuracy, trained, training

pytestmark = pytest.mark.slow

SEEDS = range(5)


@dataclass(frozen=True)
class Filters:
    """Whole filters of smallest l1 norm go: the structured rival, as a mask so that nothing else differs."""

    rows: int = 1

    @classmethod
    def of(cls, argument: str) -> "Filters":
        """Read nothing."""
        return cls()

    def keep(self, weight: Floats, sparsity: float) -> Kept:
        """Drop the share of outputs, rounded down."""
        norms = np.abs(weight).sum(axis=(1, 2))
        kept = np.ones(len(weight), dtype=bool)
        kept[np.argsort(norms, kind="stable")[: int(len(weight) * sparsity)]] = False
        return np.broadcast_to(kept[:, None, None], weight.shape)


MASKS: dict[str, Mask] = {
    "weights": Magnitude(),
    "1x2": OneByN(2),
    "1x4": OneByN(4),
    "1x8": OneByN(8),
    "1x16": OneByN(16),
    "filters": Filters(),
}


@lru_cache
def after(name: str, seed: int, sparsity: float, epochs: int = 5, rearrange: bool = True) -> float:
    """Return the accuracy in percent of a mask's net after training under it on all scans."""
    masked = MaskBlocks(MASKS[name], sparsity, rearrange).run(trained(seed).clone(), Context()).model
    step = TrainSparse(epochs, 0.05)
    return accuracy(step.run(masked, Context(data=training(), seed=seed)).model)


def mean(name: str, sparsity: float) -> float:
    """Return the mean over seeds."""
    return float(np.mean([after(name, seed, sparsity) for seed in SEEDS]))


@pytest.mark.parametrize("sparsity", [0.75, 0.9])
def test_blocks_of_four_lie_between_single_weights_and_whole_filters(sparsity: float) -> None:
    found = {name: mean(name, sparsity) for name in ("weights", "1x4", "filters")}
    wins = sum(after("1x4", seed, sparsity) > after("filters", seed, sparsity) for seed in SEEDS)

    assert found["weights"] > found["1x4"] > found["filters"], found
    assert wins >= 4, found
