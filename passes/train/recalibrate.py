"""Norms that measure their inputs anew: the cheapest recovery, without labels and without training."""

from dataclasses import dataclass
from typing import ClassVar

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.passes.train.finetune import changed_weights, check_graph
from graphrewrite.pipeline import Claim, Context, Free, Note, Outcome
from graphrewrite.pipeline.registry import passes


@passes.register("recalibrate_norms")
@dataclass(frozen=True)
class RecalibrateNorms:
    """Measure the statistics of batch norms over the context's data, in batches of `batch` samples.

    After weights were pruned or rounded, what norms see has another mean and variance than what they learned. Weights
    stay as they are; that nothing but statistics has changed is checked. Norms that are folded into weights are none.
    """

    batch: int = 64

    asks: ClassVar[tuple[str, ...]] = ("data", "torch")
    claim: ClassVar[Claim] = Free()

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise InvalidConfig(
                f"RecalibrateNorms.batch is {self.batch}; one sample has no variance over samples; take 2 or more"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Measure.

        Raises:
            InvalidConfig: the context has no data.
            InvalidData: the data does not fit the model.
            UnsupportedOp: an operator has no torch form.
        """
        from graphrewrite.bridge.recalibrate import recalibrated

        if context.data is None:
            raise InvalidConfig(
                "norms measure samples; expected data in the context; give it with --data, or Context(data=...)"
            )
        found = recalibrated(model, context.data, self.batch, context.seed, context.progress)
        check_graph(model, found)
        moved = changed_weights(model, found)
        if not moved:
            return Outcome(model, False, (Note("skipped", "the whole model", "it has no batch norms"),))
        told = f"{len(moved)} statistics measured over {len(context.data)} samples"
        return Outcome(found, True, (Note("done", "norms", told),), details={"statistics": [*moved]})
