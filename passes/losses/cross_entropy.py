"""Cross-entropy of labels, smoothed or not."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidConfig, InvalidData

if TYPE_CHECKING:
    import torch


@losses.register("cross_entropy")
@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of scores before a softmax, [samples, classes, ...], and class numbers [samples, ...].

    With `smoothing` that share of each label is spread over all classes (Szegedy et al. 2016). A model that ends in a
    softmax has its scores before it: name that tensor in `tensor`.
    """

    smoothing: float = 0.0
    tensor: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise InvalidConfig(
                f"CrossEntropy.smoothing is {self.smoothing}; it is a share, from 0 to 1; correct it"
            )

    @property
    def needs(self) -> Needs:
        """Labels, and the scores."""
        return Needs(student=(self.tensor,) if self.tensor else (), labels=True)

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the mean over samples (and over places, where every place has a label).

        Raises:
            InvalidData: the labels are no class numbers that the scores have.
        """
        from torch.nn import functional

        assert batch.labels is not None
        name = batch.name(self.tensor)
        scores = batch.student[name].float()
        labels = batch.labels.long()
        if scores.ndim < 2 or labels.shape != scores.shape[:1] + scores.shape[2:]:
            raise InvalidData(
                f"the labels have the shape {list(labels.shape)} and {name!r} has {list(scores.shape)}; expected "
                "scores [samples, classes, ...] and one class number for each; check the labels, or name other scores"
            )
        classes = scores.shape[1]
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise InvalidData(
                f"there are labels from {int(labels.min())} to {int(labels.max())} and {name!r} scores {classes} "
                f"classes; expected 0 to {classes - 1}; check the labels"
            )
        found: torch.Tensor = functional.cross_entropy(scores, labels, label_smoothing=self.smoothing)
        return found
