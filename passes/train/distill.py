"""Recovery by a teacher: the model learns to answer as the original does, with or without labels."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import onnx_graphsurgeon as gs

from graphrewrite.bridge.losses import Loss, class_axis
from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.shapes import infer
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.mse import Mse
from graphrewrite.passes.losses.soft_labels import SoftLabels
from graphrewrite.passes.train.finetune import FineTune
from graphrewrite.pipeline import Claim, Context, Free, Outcome
from graphrewrite.pipeline.registry import passes


@passes.register("distill")
@dataclass(frozen=True)
class Distill:
    """Train on the softened scores of a teacher (Hinton et al., 2015); the short form of `FineTune` for that.

    Args:
        epochs: how often every sample is seen.
        rate: learning rate at the start; it falls along a cosine, after a first epoch in which it rises.
        temperature: how much scores are softened.
        labels: share of the loss that is the cross-entropy of labels; 0 needs none.
        batch: samples in a step.
        optimiser: makes the steps.
        teacher: path of the model to learn from; by default the model the pipeline began with.
        validation: data to judge epochs by, as for `FineTune`.

    Scores are the first output, or what goes into the softmax that makes it. An output of a single class is a number:
    it is taught by the mean squared distance, and labels are its targets. The claim is that of `FineTune`.
    """

    epochs: int = 3
    rate: float = 0.001
    temperature: float = 4.0
    labels: float = 0.0
    batch: int = 64
    optimiser: Optimiser = field(default_factory=Optimiser)
    teacher: str = ""
    validation: str = ""

    claim: ClassVar[Claim] = Free()

    def __post_init__(self) -> None:
        if not 0 <= self.labels < 1:
            raise InvalidConfig(
                f"Distill.labels is {self.labels}; it is the labels' share of the loss, from 0 to below 1; "
                "to learn from labels alone use FineTune"
            )
        self.recipe(None)  # what cannot be is said now

    def recipe(self, scores: str | None) -> Recipe:
        """Return what is done, written as a recipe; `scores` names the tensor before a softmax."""
        losses: tuple[Loss, ...] = (SoftLabels(self.temperature, tensor=scores, weight=1 - self.labels),)
        if self.labels:
            losses += (CrossEntropy(tensor=scores, weight=self.labels),)
        stage = Stage(self.epochs, self.rate, losses, warmup=min(1.0, self.epochs / 2))
        return Recipe((stage,), self.optimiser, self.batch)

    def recipe_for(self, model: Model) -> Recipe:
        """Return the recipe for a model: of its scores, or of its numbers where the first output has one class only."""
        found = self.recipe(before_softmax(model))
        if not _is_number(model):
            return found
        (stage,) = found.stages
        losses = [Mse(of="teacher", weight=1 - self.labels)]
        if self.labels:
            losses.append(Mse(weight=self.labels))
        return replace(found, stages=(replace(stage, losses=tuple(losses)),))

    def run(self, model: Model, context: Context) -> Outcome:
        """Train; raises what `FineTune` raises."""
        return FineTune(self.recipe_for(model), self.teacher, self.validation).run(model, context)


def _is_number(model: Model) -> bool:
    shape = infer(model).shape(model.outputs[0].name)
    if shape is None:
        return False
    axis = class_axis(shape)
    return axis is None or shape[axis] == 1


def before_softmax(model: Model) -> str | None:
    """Return the tensor that goes into the softmax making the first output; None when it is made otherwise."""
    output = model.outputs[0]
    maker: gs.Node | None = next(iter(output.inputs), None)
    if maker is None or maker.op != "Softmax" or domain_name(maker.domain):
        return None
    return str(maker.inputs[0].name)
