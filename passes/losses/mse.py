"""Mean squared error, of targets or of a teacher's output."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidData

if TYPE_CHECKING:
    import torch


@losses.register("mse")
@dataclass(frozen=True)
class Mse:
    """Mean of (output - target)^2; the targets are the labels. `tensor` names another tensor than the first output."""

    tensor: str | None = None
    weight: float = 1.0

    @property
    def needs(self) -> Needs:
        """Targets in the shape of the output."""
        return Needs(student=(self.tensor,) if self.tensor else (), labels=True)

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the mean over all numbers.

        Raises:
            InvalidData: the targets have another shape; [samples] fits [samples, 1].
        """
        assert batch.labels is not None
        name = batch.name(self.tensor)
        found = batch.student[name].float()
        targets = batch.labels.float()
        if targets.ndim + 1 == found.ndim and found.shape[-1] == 1:
            targets = targets[..., None]
        if targets.shape != found.shape:
            raise InvalidData(
                f"the targets have the shape {list(batch.labels.shape)} and {name!r} has {list(found.shape)}; expected "
                "the same; reshape the targets, or name another tensor"
            )
        return (found - targets).square().mean()
