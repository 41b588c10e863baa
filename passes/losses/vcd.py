"""Two views of a sample: each learns what the other view supports, and forgets what only it has."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.feature_match import check_several
from graphrewrite.passes.losses.soft_labels import divergence
from graphrewrite.passes.losses.vsd import by_labels, pooled

if TYPE_CHECKING:
    import torch
    from torch import nn


@losses.register("vcd")
@dataclass(frozen=True)
class Vcd:
    """Variational cross-distillation (Tian et al. 2021): KL(P(y | v2) || P(y | z1)) + KL(P(y | v1) || P(y | z2)).

    One model runs on two views of each sample with the same weights (`graphrewrite.ir.beside.twice`). `observations`
    are a wide tensor for each view, `scores` the model's scores for each, which stand for P(y | z) of a narrow z before
    them. What the narrow tensor keeps is then what the other view says of the label too.

    P(y | v) comes from one linear classifier for both views that the loss learns by the cross-entropy of smoothed
    labels, `labels` times as much as the divergence; no other gradient reaches it. `rate` is what the stage's rate is
    multiplied by for it. It is thrown away.
    """

    observations: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    temperature: float = 1.0
    smoothing: float = 0.1
    labels: float = 0.5
    rate: float = 1.0
    weight: float = 2.0

    def __post_init__(self) -> None:
        check_several("Vcd.observations", self.observations, 2, "a wide tensor for each view")
        check_several("Vcd.scores", self.scores, 2, "the scores for each view")
        if len(self.observations) != 2 or len(self.scores) != 2:
            raise InvalidConfig(
                f"Vcd has {len(self.observations)} observations and {len(self.scores)} scores; expected two of each, "
                "one for each view; correct them"
            )
        if not (self.temperature > 0 and self.labels > 0 and self.rate >= 0):
            raise InvalidConfig(
                f"Vcd cannot have the temperature {self.temperature}, labels {self.labels} and rate {self.rate}; "
                "expected a positive temperature, a share of labels above 0 and a rate from 0; correct them"
            )
        CrossEntropy(self.smoothing)  # what cannot be is said now

    @property
    def needs(self) -> Needs:
        """Both tensors of both views, and labels."""
        return Needs(student=(*self.observations, *self.scores), labels=True)

    def net(self, batch: Batch) -> "nn.Module":
        """Return the classifier of the observations."""
        from torch import nn

        return nn.Linear(pooled(batch, self.observations[0]).shape[1], batch.student[self.scores[0]].shape[1])

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the mean over samples."""
        import torch

        assert batch.net is not None
        wide = [batch.net(pooled(batch, name)) for name in self.observations]
        narrow = [batch.student[name] for name in self.scores]
        parts = [
            divergence(own, other.detach(), self.temperature)
            for own, other in zip(narrow, wide[::-1], strict=True)
        ]
        parts += [self.labels * by_labels(scores, batch, self.smoothing) for scores in wide]
        return torch.stack(parts).sum()
