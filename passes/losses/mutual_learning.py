"""Nets that learn together, each from the answers of the others."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.losses.feature_match import check_several
from graphrewrite.passes.losses.soft_labels import check_alike, divergence

if TYPE_CHECKING:
    import torch


@losses.register("mutual_learning")
@dataclass(frozen=True)
class MutualLearning:
    """Divergence of each score tensor from all others of the same model (Zhang et al. 2018, deep mutual learning).

    The sum over `tensors` of the mean over the others of KL(softmax(other / t) || softmax(own / t)) * t^2; no gradient
    flows into the other. `graphrewrite.ir.beside` puts several nets into one model.
    """

    tensors: tuple[str, ...] = ()
    temperature: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_several("MutualLearning.tensors", self.tensors, 2, "scores that learn from each other")
        if not self.temperature > 0:
            raise InvalidConfig(
                f"MutualLearning.temperature is {self.temperature}; it must be positive; 1 leaves scores as they are"
            )

    @property
    def needs(self) -> Needs:
        """The scores."""
        return Needs(student=self.tensors)

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the mean over samples and places.

        Raises:
            InvalidData: two of the tensors score other classes.
        """
        import torch

        scores = [batch.student[name] for name in self.tensors]
        for name, each in zip(self.tensors, scores, strict=True):
            check_alike(repr(self.tensors[0]), scores[0].shape, repr(name), each.shape)
        apart = [
            divergence(own, other.detach(), self.temperature)
            for own in scores
            for other in scores
            if other is not own
        ]
        return torch.stack(apart).sum() / (len(scores) - 1)
