"""Distillation: the teacher's softened scores as labels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidConfig

if TYPE_CHECKING:
    import torch


@losses.register("soft_labels")
@dataclass(frozen=True)
class SoftLabels:
    """Divergence of the student's scores from the teacher's, both softened by a temperature (Hinton et al. 2015).

    KL(softmax(teacher / t) || softmax(student / t)) * t^2, which keeps the size of gradients whatever the temperature.
    It needs no labels; for a mix, a stage gets this and `CrossEntropy`, each with its weight. Scores are
    [samples, classes, ...]; `tensor` names others than the first output, in both models.
    """

    temperature: float = 4.0
    tensor: str | None = None
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
        """Return the mean over samples and places."""
        return divergence(batch.student[batch.name(self.tensor)], batch.taught(self.tensor), self.temperature)


def divergence(scores: "torch.Tensor", wanted: "torch.Tensor", temperature: float = 1.0) -> "torch.Tensor":
    """Return KL(softmax(wanted / t) || softmax(scores / t)) * t^2, a mean over samples and places.

    Both are scores [samples, classes, ...]. Gradients flow into both; detach what is to stay.
    """
    from torch.nn import functional

    found = functional.log_softmax(scores.float() / temperature, dim=1)
    target = functional.log_softmax(wanted.float() / temperature, dim=1)
    apart = functional.kl_div(found, target, reduction="none", log_target=True).sum(dim=1)
    return apart.mean() * temperature**2
