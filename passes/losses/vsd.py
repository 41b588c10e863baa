"""A narrow layer that keeps what the wide one before it knows of the labels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.soft_labels import divergence

if TYPE_CHECKING:
    import torch
    from torch import nn


@losses.register("vsd")
@dataclass(frozen=True)
class Vsd:
    """Variational self-distillation (Tian et al. 2021): KL(P(y | v) || P(y | z)), with no gradient through the first.

    v is the `observation`, a wide tensor of the model; z is the `representation`, which is computed from it. For the
    chain y - v - z the mean divergence is I(v; y) - I(z; y), so at 0 the narrow z says of the label what v says, and no
    mutual information has to be estimated.

    P(y | v) comes from a linear classifier that the loss learns. P(y | z) comes from one more that it learns (linear,
    norm, leaky rectifier, dropout, linear), or, without a `representation`, from the scores of the model itself, which
    also say how many classes there are. Tensors are [samples, channels, ...]; a mean is taken over places.

    The classifiers learn by the cross-entropy of smoothed labels, `labels` times as much as the divergence: with the
    weight 2 that is the published 1. `rate` is what the stage's rate is multiplied by for them. They are thrown away.
    """

    observation: str = ""
    representation: str = ""
    tensor: str | None = None
    temperature: float = 1.0
    smoothing: float = 0.1
    labels: float = 0.5
    rate: float = 1.0
    weight: float = 2.0

    def __post_init__(self) -> None:
        if not self.observation:
            raise InvalidConfig(
                "Vsd.observation is empty; expected the name of the wide tensor whose knowledge is to be kept; "
                "`graphrewrite inspect` lists names"
            )
        if not (self.temperature > 0 and self.labels > 0 and self.rate >= 0):
            raise InvalidConfig(
                f"Vsd cannot have the temperature {self.temperature}, labels {self.labels} and rate {self.rate}; "
                "expected a positive temperature, a share of labels above 0, without which its classifier knows "
                "nothing, and a rate from 0; correct them"
            )
        CrossEntropy(self.smoothing)  # what cannot be is said now

    @property
    def needs(self) -> Needs:
        """Both tensors, the model's scores, and labels."""
        named = (self.observation, self.representation, self.tensor)
        return Needs(student=tuple(name for name in named if name), labels=True)

    def net(self, batch: Batch) -> "nn.Module":
        """Return the classifiers: `wide` of the observation, `narrow` of the representation where there is one."""
        from torch import nn

        classes = _scores(batch, self.tensor).shape[1]
        made = {"wide": nn.Linear(pooled(batch, self.observation).shape[1], classes)}
        if self.representation:
            size = pooled(batch, self.representation).shape[1]
            made["narrow"] = narrow_classifier(size, classes)
        return nn.ModuleDict(made)

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the mean over samples."""
        assert batch.net is not None
        wide = batch.net.get_submodule("wide")(pooled(batch, self.observation))
        found = by_labels(wide, batch, self.smoothing)
        if self.representation:
            narrow = batch.net.get_submodule("narrow")(pooled(batch, self.representation))
            found = found + by_labels(narrow, batch, self.smoothing)
        else:
            narrow = _scores(batch, self.tensor)
        return divergence(narrow, wide.detach(), self.temperature) + self.labels * found


def narrow_classifier(size: int, classes: int) -> "nn.Module":
    """Return the classifier of a representation of `size` numbers."""
    from torch import nn

    inner = max(size // 2, classes)
    return nn.Sequential(
        nn.Linear(size, inner),
        nn.BatchNorm1d(inner),
        nn.LeakyReLU(0.1),
        nn.Dropout(0.5),
        nn.Linear(inner, classes),
    )


def pooled(batch: Batch, name: str) -> "torch.Tensor":
    """Return a tensor [samples, channels, ...] of the student as [samples, channels], the mean over places.

    Raises:
        InvalidData: it has no channels.
    """
    found = batch.student[name].float()
    if found.ndim < 2:
        raise InvalidData(
            f"{name!r} has the shape {list(found.shape)}; expected [samples, channels, ...]; name another tensor"
        )
    return found.flatten(2).mean(dim=2) if found.ndim > 2 else found


def by_labels(scores: "torch.Tensor", batch: Batch, smoothing: float) -> "torch.Tensor":
    """Return the cross-entropy of scores that are no tensor of the model."""
    return CrossEntropy(smoothing)(Batch({"scores": scores}, labels=batch.labels, outputs=("scores",)))


def _scores(batch: Batch, tensor: str | None) -> "torch.Tensor":
    name = batch.name(tensor)
    found = batch.student[name]
    if found.ndim != 2:
        raise InvalidData(
            f"{name!r} has the shape {list(found.shape)}; expected scores [samples, classes]; name them in `tensor`"
        )
    return found
