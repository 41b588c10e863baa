"""1xN sparsity from a trained model to a fast one: mask, train under the mask, fold the norms, skip the blocks."""

from dataclasses import dataclass
from typing import ClassVar

from graphrewrite.ir import Model
from graphrewrite.passes.sparse.lower_block_sparse import LowerBlockSparse
from graphrewrite.passes.sparse.mask_blocks import MaskBlocks
from graphrewrite.passes.sparse.masks.one_by_n import OneByN
from graphrewrite.passes.sparse.train import LearnFrom, TrainSparse
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Claim, Context, Free, Outcome, Pass, Pipeline
from graphrewrite.pipeline.registry import passes


@passes.register("one_by_n")
@dataclass(frozen=True)
class PruneOneByN:
    """Prune blocks of N outputs at one input, train what is left, and write layers that skip them (Lin et al. 2021).

    Args:
        n: outputs that share a block.
        sparsity: the share of every layer's blocks that goes.
        epochs: of training under the mask; published are 180 from a pretrained model.
        rate: learning rate at the start; it falls along a cosine.
        learn_from: "labels", "targets", a "teacher" or its "output", as for `TrainSparse`.
        batch: samples in a step.
        rearrange: sort filters by strength first, where the channel groups let them move.
        ends: mask the first and the last layer too.
        when: lower layers where that is "faster" on this machine, or "always".

    It stands for its steps: a pipeline runs, checks and keeps each of them. The published decay, momentum and rate;
    norms are folded after the training, not before it.
    """

    n: int = 4
    sparsity: float = 0.5
    epochs: int = 10
    rate: float = 0.01
    learn_from: LearnFrom = "labels"
    batch: int = 64
    rearrange: bool = True
    ends: bool = False
    when: str = "faster"

    asks: ClassVar[tuple[str, ...]] = ("data", "torch")
    claim: ClassVar[Claim] = Free()

    def __post_init__(self) -> None:
        self.parts()  # what cannot be is said now

    def parts(self) -> tuple[Pass, ...]:
        """Return the steps it stands for."""
        return (
            MaskBlocks(OneByN(self.n), self.sparsity, self.rearrange, self.ends),
            TrainSparse(self.epochs, self.rate, self.learn_from, self.batch),
            Tidy(),
            LowerBlockSparse(when=self.when),
        )

    def run(self, model: Model, context: Context) -> Outcome:
        """Run the steps; in a pipeline the pipeline does that itself."""
        return Pipeline(self.parts()).run(model, context)
