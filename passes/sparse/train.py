"""Training what masks left: the weights go on learning, and zeros stay zeros."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from graphrewrite.bridge.losses import Loss
from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.mse import Mse
from graphrewrite.passes.losses.soft_labels import SoftLabels
from graphrewrite.passes.train.distill import before_softmax
from graphrewrite.passes.train.finetune import FineTune
from graphrewrite.pipeline import Claim, Context, Free, Outcome
from graphrewrite.pipeline.registry import passes

LearnFrom: TypeAlias = Literal["labels", "targets", "teacher", "output"]


def loss_of(learn_from: LearnFrom, scores: str | None) -> Loss:
    """Return what is made small; `scores` names the tensor before a softmax, or is None for the first output.

    Classes are learned by cross-entropy with "labels" or with the softened scores of a "teacher", numbers by the mean
    squared distance from "targets" or from the teacher's "output".

    Raises:
        InvalidConfig: it is none of these.
    """
    known: dict[str, Loss] = {
        "labels": CrossEntropy(tensor=scores),
        "targets": Mse(),
        "teacher": SoftLabels(4.0, tensor=scores),
        "output": Mse(of="teacher"),
    }
    if learn_from not in known:
        raise InvalidConfig(f"learn_from is {learn_from!r}; expected one of {', '.join(known)}; correct it")
    return known[learn_from]


def momentum(decay: float) -> Optimiser:
    """Return stochastic gradient descent with a momentum of 0.9, which published fine-tuning of masks uses."""
    return Optimiser("sgd", {"momentum": 0.9, "weight_decay": decay})


@passes.register("train_sparse")
@dataclass(frozen=True)
class TrainSparse:
    """Train the weights under their zeros; the short form of `FineTune` with `keep_zeros` for all weights.

    Args:
        epochs: how often every sample is seen.
        rate: learning rate at the start; it falls along a cosine.
        learn_from: "labels" (classes), "targets" (numbers in the shape of the output), or, without either, a "teacher"
            for its scores of classes, or its "output" for numbers: the model the pipeline began with.
        batch: samples in a step.
        optimiser: makes the steps.

    Vectors are trained whole: a bias that starts at zero is no pruned one. Scores are the first output, or what goes
    into the softmax that makes it. The claim is that of `FineTune`; that zeros stayed is the law of the transform
    `mask`.
    """

    epochs: int = 10
    rate: float = 0.01
    learn_from: LearnFrom = "labels"
    batch: int = 64
    optimiser: Optimiser = field(default_factory=lambda: momentum(4e-5))

    claim: ClassVar[Claim] = Free()

    def __post_init__(self) -> None:
        self.recipe(None)  # what cannot be is said now

    def recipe(self, scores: str | None) -> Recipe:
        """Return what is done, written as a recipe; `scores` names the tensor before a softmax."""
        stage = Stage(self.epochs, self.rate, (loss_of(self.learn_from, scores),), keep_zeros=("*",))
        return Recipe((stage,), self.optimiser, self.batch)

    def run(self, model: Model, context: Context) -> Outcome:
        """Train; raises what `FineTune` raises."""
        return FineTune(self.recipe(before_softmax(model))).run(model, context)
