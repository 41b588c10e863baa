"""Lottery Jackpots as published: zeros shared out by magnitude, a mask that is searched, training if wanted."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from graphrewrite.ir import Model
from graphrewrite.passes.sparse.mask_blocks import MaskBlocks
from graphrewrite.passes.sparse.masks.lottery_jackpot import LotteryJackpot
from graphrewrite.passes.sparse.train import LearnFrom, TrainSparse, momentum
from graphrewrite.pipeline import Claim, Context, Free, Outcome, Pass, Pipeline
from graphrewrite.pipeline.registry import passes


@passes.register("lottery_jackpot")
@dataclass(frozen=True)
class FindLotteryJackpot:
    """Search which weights of a trained model to keep, and train these only where asked (Zhang et al. 2021).

    Args:
        sparsity: the share of all weights between the first and the last layer that goes, by one threshold of |w|.
        search: epochs in which scores are trained and weights are frozen.
        search_rate: their learning rate at the start; it falls along a cosine.
        restriction: "short" lets fewer and fewer weights change places, "none" all that would.
        epochs: of training under the mask that was found, at a rate of 0.01 and without decay; published are 0 or 10.
        learn_from: "labels", "targets", a "teacher" or its "output", as for `TrainSparse`.
        batch: samples in a step.

    It stands for its steps: a pipeline runs, checks and keeps each of them.
    """

    sparsity: float = 0.9
    search: int = 30
    search_rate: float = 0.1
    restriction: Literal["none", "short"] = "short"
    epochs: int = 0
    learn_from: LearnFrom = "labels"
    batch: int = 64

    asks: ClassVar[tuple[str, ...]] = ("data", "torch")
    claim: ClassVar[Claim] = Free()

    def __post_init__(self) -> None:
        self.parts()  # what cannot be is said now

    def parts(self) -> tuple[Pass, ...]:
        """Return the steps it stands for."""
        mask = LotteryJackpot(
            self.search, self.search_rate, self.restriction, learn_from=self.learn_from, batch=self.batch
        )
        found = MaskBlocks(mask, self.sparsity, scope="global")
        if not self.epochs:
            return (found,)
        return (found, TrainSparse(self.epochs, 0.01, self.learn_from, self.batch, momentum(0.0)))

    def run(self, model: Model, context: Context) -> Outcome:
        """Run the steps; in a pipeline the pipeline does that itself."""
        return Pipeline(self.parts()).run(model, context)
