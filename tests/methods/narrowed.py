"""A trained net with a share of the channels of every group removed, by a criterion, and what that costs."""

from dataclasses import dataclass
from functools import lru_cache

from graphrewrite.bridge import finetune
from graphrewrite.bridge.recalibrate import recalibrated
from graphrewrite.dims import ChannelGroup
from graphrewrite.ir import Model
from graphrewrite.passes.channels import Ratio, RemoveChannels
from graphrewrite.passes.channels.criteria import Criterion, Evidence, criteria
from graphrewrite.passes.channels.criteria.hrank import HRank
from graphrewrite.passes.channels.evidence import Scores
from graphrewrite.pipeline import Context
from tests.methods.residual import accuracy, recipe, trained, training

SAMPLES = 300


@dataclass(frozen=True)
class LowestRanks(HRank):
    """The criterion upside down: maps of low rank stay."""

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        """Return the larger the lower the ranks."""
        return 1 / (1 + super().score(group, evidence))


@lru_cache
def cut(name: str, seed: int, keep: float = 0.4) -> Model:
    """Return the net of a seed with this share of the channels of every group, its norms measured anew."""
    criterion: Criterion = LowestRanks() if name == "lowest ranks" else criteria.make(name)
    step = RemoveChannels(criterion, Ratio(keep), absorb=False)
    narrow = step.run(trained(seed).clone(), Context(data=training(SAMPLES), seed=seed)).model
    return recalibrated(narrow, training(SAMPLES))


def rows(names: tuple[str, ...], seeds: range, epochs: int = 0) -> dict[str, list[float]]:
    """Return the accuracy of each seed in %, after so many epochs of training for all alike."""
    found: dict[str, list[float]] = {}
    for name in names:
        models = [cut(name, seed) for seed in seeds]
        if epochs:
            models = [finetune(model, recipe(epochs, 0.02), training()) for model in models]
        found[name] = [accuracy(model) for model in models]
    return found
