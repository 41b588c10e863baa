"""Binary nets in two steps of Adam: first activations become signs, then weights too."""

from dataclasses import dataclass, replace
from typing import ClassVar

from graphrewrite.bridge.losses import Loss
from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.bridge.schedules import Linear
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.passes.binary.binarizers.react import React
from graphrewrite.passes.binary.choice import Choice
from graphrewrite.passes.binary.train import TrainBinary
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.soft_labels import SoftLabels
from graphrewrite.passes.train.distill import before_softmax
from graphrewrite.pipeline import Claim, Context, Free, Outcome
from graphrewrite.pipeline.registry import passes


@passes.register("adam_bnn")
@dataclass(frozen=True)
class AdamBnn(Choice):
    """ReActNet in two steps: a little decay while weights are real, none once they are signs (Liu et al. 2021).

    Each step is Adam with a rate that falls along a line, on the scores of a teacher. Decay makes weights that can
    still change sides; without it signs come to rest.

    Args:
        epochs: of the step with real weights, and of the one with signs.
        rate: learning rate at the start of each.
        decay: of the filters, in the first step.
        labels: share of the loss that is the cross-entropy of labels; with 1 no teacher is asked.
        batch: samples in a step.
        teacher: path of the model to learn from; by default the model the pipeline began with.
        validation: data to judge epochs by, as for `FineTune`.
        ends: the first and the last convolutions too, as for `BinarizeConv`.
        least_signs: leave filters with fewer weights as they are.
        skip: patterns (`*` is any text) of convolutions or weights to leave as they are.

    The published run has 256 epochs a step, batches of 256 and a ResNet-34 for a teacher.
    """

    epochs: tuple[int, int] = (10, 10)
    rate: float = 1.25e-3
    decay: float = 5e-6
    labels: float = 0.0
    batch: int = 64
    teacher: str = ""
    validation: str = ""

    claim: ClassVar[Claim] = Free()
    asks: ClassVar[tuple[str, ...]] = ("data", "torch")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.labels <= 1 or self.decay < 0:
            raise InvalidConfig(
                f"AdamBnn(labels={self.labels}, decay={self.decay}) cannot be; expected a share of "
                "labels from 0 to 1 and no negative decay; correct it"
            )
        self.recipe(None)  # what cannot be is said now

    def recipe(self, scores: str | None) -> Recipe:
        """Return the two steps as a recipe; `scores` names the tensor before a softmax."""
        losses: list[Loss] = []
        if self.labels < 1:
            losses.append(SoftLabels(1.0, tensor=scores, weight=1 - self.labels))
        if self.labels > 0:
            losses.append(CrossEntropy(tensor=scores, weight=self.labels))
        real, signs = (Stage(epochs, self.rate, tuple(losses), Linear()) for epochs in self.epochs)
        signs = replace(signs, undecayed=("*",))
        return Recipe((real, signs), Optimiser("adam", {"weight_decay": self.decay}), self.batch)

    def run(self, model: Model, context: Context) -> Outcome:
        """Train both steps; raises what `TrainBinary` raises."""
        step = TrainBinary(
            React(),
            self.recipe(before_softmax(model)),
            real_stages=1,
            teacher=self.teacher,
            validation=self.validation,
            ends=self.ends,
            least_signs=self.least_signs,
            skip=self.skip,
        )
        return step.run(model, context)
