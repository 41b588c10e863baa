"""Lottery Jackpots: the weights of a trained model stay as they are, and which of them to keep is learned."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from glob import escape
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.passes.sparse.masks import Floats, Kept, largest, masks, whole_number
from graphrewrite.passes.sparse.train import LearnFrom, loss_of
from graphrewrite.passes.train.distill import before_softmax
from graphrewrite.passes.train.finetune import FineTune
from graphrewrite.pipeline import Context

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.lottery_jackpot import LotteryJackpot as Scored


@masks.register("lottery_jackpot")
@dataclass(frozen=True)
class LotteryJackpot:
    """Search the weights to keep by training a score for each, from the magnitude mask on (Zhang et al. 2021).

    The weights are frozen and stay exact; norms measure their statistics under the mask. `epochs` of 0 is the start
    alone. Scores make steps of `rate` along a cosine; `restriction` "short" lets fewer and fewer weights change places,
    "none" all that would. `learn_from` is one of those of `TrainSparse`.
    """

    epochs: int = 10
    rate: float = 0.1
    restriction: Literal["none", "short"] = "short"
    start: Literal["magnitude", "random"] = "magnitude"
    learn_from: LearnFrom = "labels"
    batch: int = 64

    asks: ClassVar[tuple[str, ...]] = ("data", "torch")

    def __post_init__(self) -> None:
        for name, known in (
            ("restriction", ("none", "short")),
            ("start", ("magnitude", "random")),
        ):
            if getattr(self, name) not in known:
                raise InvalidConfig(
                    f"lottery_jackpot has {name} = {getattr(self, name)!r}; expected {' or '.join(known)}; correct it"
                )
        if self.epochs < 0:
            raise InvalidConfig(f"lottery_jackpot has {self.epochs} epochs; expected 0 or more; correct it")
        loss_of(self.learn_from, None)  # what cannot be is said now

    @classmethod
    def of(cls, argument: str) -> "LotteryJackpot":
        """Read the epochs of the search."""
        return cls(whole_number(argument, 10, "the epochs of lottery_jackpot"))

    @property
    def rows(self) -> int:
        """No blocks."""
        return 1

    def keep(self, weight: Floats, sparsity: float) -> Kept:
        """Return where the search starts from magnitudes: the largest |w|."""
        return largest(np.abs(weight), sparsity)

    def taught_by(self, learn_from: LearnFrom) -> "LotteryJackpot":
        """Return the search that learns from labels, targets, or a teacher."""
        return replace(self, learn_from=learn_from)

    def learned(self, model: Model, shares: Mapping[str, float], context: Context) -> Model:
        """Search the masks of these weights together; those that no gradient reaches are masked as at the start.

        Raises:
            InvalidConfig: the context has no data.
            InvalidData: the data has no labels, and they are learned from.
        """
        if self.epochs and context.data is None:
            raise InvalidConfig(
                "a mask is searched on samples; expected data in the context; give it with --data, or Context(data=...)"
            )
        reached = _trained(model) & shares.keys() if self.epochs else set()
        others = {name: share for name, share in shares.items() if name not in reached}
        started = self._started(model, others, context.seed) if others else model
        if not reached:
            return started
        searched = {name: share for name, share in shares.items() if name in reached}
        recipe = self.recipe(searched, before_softmax(model), context.seed)
        return FineTune(recipe).run(started, context).model

    def _started(self, model: Model, shares: Mapping[str, float], seed: int) -> Model:
        import torch

        started = model.clone()
        for name, share in shares.items():
            weight = started.weights[name]
            first = self._scored(share, seed).module(torch.from_numpy(weight.astype(np.float32)))
            started.weights[name] = np.where(first.kept.numpy(), weight, np.zeros((), weight.dtype))
        return started

    def recipe(self, shares: Mapping[str, float], scores: str | None = None, seed: int = 0) -> Recipe:
        """Return the search as a recipe; `scores` names the tensor before a softmax."""
        transforms = {escape(name): self._scored(share, seed) for name, share in shares.items()}
        loss = loss_of(self.learn_from, scores)
        stage = Stage(self.epochs, self.rate, (loss,), transforms=transforms, trainable=())
        return Recipe((stage,), Optimiser("sgd", {"momentum": 0.9}), self.batch)

    def _scored(self, share: float, seed: int) -> "Scored":
        from graphrewrite.bridge.transforms.lottery_jackpot import LotteryJackpot as Scored

        return Scored(share, self.restriction, self.start, seed)


def _trained(model: Model) -> set[str]:
    from graphrewrite.bridge.module import GraphModule
    from graphrewrite.bridge.weights import PARAMETER

    return {name for name, role in GraphModule(model).record.roles.items() if role.kind == PARAMETER}
