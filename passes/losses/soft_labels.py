"""Distillation: the teacher's softened scores as labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, as_scores, class_axis, losses
from graphrewrite.errors import InvalidConfig, InvalidData

if TYPE_CHECKING:
    import torch


@losses.register("soft_labels")
@dataclass(frozen=True)
class SoftLabels:
    """Divergence of the student's scores from the teacher's, both softened by a temperature (Hinton et al. 2015).

    KL(softmax(teacher / t) || softmax(student / t)) * t^2, which keeps the size of gradients whatever the temperature.
    It needs no labels; for a mix, a stage gets this and `CrossEntropy`, each with its weight. Scores are
    [samples, classes], [samples, steps, classes] or [samples, classes, ...], or have their classes along `axis`;
    `tensor` names others than the first output, in both models.
    """

    temperature: float = 4.0
    tensor: str | None = None
    axis: int | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InvalidConfig(
                f"SoftLabels.temperature is {self.temperature}; it must be positive; 1 leaves scores as they are"
            )

    @property
    def needs(self) -> Needs:
        """Scores of both."""
        read = (self.tensor,) if self.tensor else ()
        return Needs(student=read, teacher=read)

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the mean over samples and places.

        Raises:
            InvalidData: the tensor scores no two classes, or the teacher's has another shape.
        """
        name = batch.name(self.tensor)
        scores, wanted = batch.student[name], batch.taught(self.tensor)
        axis = classes_of(name, scores.shape, self.axis)
        check_alike(repr(name), scores.shape, "the teacher's", wanted.shape)
        return divergence(scores, wanted, self.temperature, axis)


def classes_of(name: str, shape: Sequence[int], axis: int | None = None) -> int:
    """Return the axis of the classes in scores of a shape: the one that is named, or that of `class_axis`.

    Raises:
        InvalidData: there are no two classes along it, so that softened scores are equal whatever was learned.
    """
    found = class_axis(shape) if axis is None else axis
    if found is None or not -len(shape) <= found < len(shape) or shape[found] < 2:
        along = "" if found is None else f" along axis {found}"
        raise InvalidData(
            f"{name!r} has the shape {list(shape)} and scores no classes{along}; expected two or more; name the "
            "scores in the loss's tensor, their axis in its axis, or for outputs that are numbers take the loss mse "
            'of="teacher"'
        )
    return found % len(shape)


def check_alike(one: str, shape: Sequence[int], other: str, wanted: Sequence[int]) -> None:
    """Make sure that two tensors of scores, called so, have the same classes.

    Raises:
        InvalidData: their shapes differ.
    """
    if [*shape] != [*wanted]:
        raise InvalidData(
            f"{one} has the shape {list(shape)} and {other} has {list(wanted)}; expected the same classes; name scores "
            "that are alike, or take another teacher"
        )


def divergence(
    scores: "torch.Tensor", wanted: "torch.Tensor", temperature: float = 1.0, axis: int | None = None
) -> "torch.Tensor":
    """Return KL(softmax(wanted / t) || softmax(scores / t)) * t^2, a mean over samples and places.

    Both are scores; their classes lie along `axis`, by default that of `class_axis`. Gradients flow into both; detach
    what is to stay.

    Raises:
        InvalidData: there are no two classes.
    """
    from torch.nn import functional

    axis = classes_of("a tensor of scores", scores.shape, axis)
    found = functional.log_softmax(as_scores(scores, axis) / temperature, dim=axis)
    target = functional.log_softmax(as_scores(wanted, axis) / temperature, dim=axis)
    apart = functional.kl_div(found, target, reduction="none", log_target=True).sum(dim=axis)
    return apart.mean() * temperature**2
