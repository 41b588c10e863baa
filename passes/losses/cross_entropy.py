"""Cross-entropy of labels, smoothed or not."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, as_scores, class_axis, losses
from graphrewrite.errors import InvalidConfig, InvalidData

if TYPE_CHECKING:
    import torch


@losses.register("cross_entropy")
@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of scores [samples, classes, ...] and class numbers [samples, ...].

    Language models score [samples, steps, classes]; the shape of the labels tells.

    With `smoothing` that share of each label is spread over all classes (Szegedy et al. 2016). Of a model that ends in
    a softmax the logarithms are taken; the tensor before it, named in `tensor`, gives the same with less rounding.
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
        scores = batch.student[name]
        labels = batch.labels.long()
        axis = class_axis(scores.shape, labels.shape)
        if axis is None:
            raise InvalidData(
                f"the labels have the shape {list(labels.shape)} and {name!r} has {list(scores.shape)}; expected "
                f"scores [samples, classes, ...] and one class number for each; {_instead(batch, name)}"
            )
        if batch.labels.is_floating_point() and bool((batch.labels != labels).any()):
            raise InvalidData(
                f"the labels are numbers such as {float(batch.labels[batch.labels != labels][0]):g}, and {name!r} "
                "scores classes; expected class numbers; for targets that are numbers take the loss mse"
            )
        classes = scores.shape[axis]
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise InvalidData(
                f"there are labels from {int(labels.min())} to {int(labels.max())} and {name!r} scores {classes} "
                f"classes; expected 0 to {classes - 1}; {_instead(batch, name)}"
            )
        scores = as_scores(scores, axis).movedim(axis, 1)
        found: torch.Tensor = functional.cross_entropy(scores, labels, label_smoothing=self.smoothing)
        return found


def _instead(batch: Batch, name: str) -> str:
    """Return what to do where labels are no classes of the scores."""
    assert batch.labels is not None
    if batch.labels.shape == batch.student[name].shape:
        return "take the argmax of one-hot rows; for targets that are numbers take the loss mse"
    others = [other for other in batch.outputs if other != name]
    if others:
        return f"check the labels, or name other scores in the loss's tensor: {', '.join(others)}"
    return "check the labels, or name other scores in the loss's tensor"
