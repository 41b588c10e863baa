"""Mean squared error, of targets or of a teacher's output."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidConfig, InvalidData

if TYPE_CHECKING:
    import torch


@losses.register("mse")
@dataclass(frozen=True)
class Mse:
    """Mean of (output - target)^2; the targets are the labels, or with `of="teacher"` what a teacher says there.

    `tensor` names another tensor than the first output, in both models.
    """

    tensor: str | None = None
    of: Literal["labels", "teacher"] = "labels"
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.of not in ("labels", "teacher"):
            raise InvalidConfig(f'Mse.of is {self.of!r}; expected "labels" or "teacher"; correct it')

    @property
    def needs(self) -> Needs:
        """Targets in the shape of the output, or a teacher."""
        read = (self.tensor,) if self.tensor else ()
        taught = self.of == "teacher"
        return Needs(student=read, teacher=read if taught else None, labels=not taught)

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the mean over all numbers.

        Raises:
            InvalidData: the targets have another shape; [samples] fits [samples, 1].
        """
        name = batch.name(self.tensor)
        found = batch.student[name].float()
        given = batch.taught(self.tensor) if self.of == "teacher" else batch.labels
        assert given is not None
        targets = given.float()
        if targets.ndim + 1 == found.ndim and found.shape[-1] == 1:
            targets = targets[..., None]
        if targets.shape != found.shape:
            raise InvalidData(
                f"the targets have the shape {list(given.shape)} and {name!r} has {list(found.shape)}; expected "
                "the same; reshape the targets, or name another tensor"
            )
        return (found - targets).square().mean()
