"""Two views of a sample that come to the same answer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.losses.feature_match import check_several
from graphrewrite.passes.losses.soft_labels import check_alike, classes_of

if TYPE_CHECKING:
    import torch


@losses.register("vml")
@dataclass(frozen=True)
class Vml:
    """Variational mutual learning (Tian et al. 2021): the Jensen-Shannon divergence of two views' answers.

    The mean of the divergences of both from their middle: the same for either order, and at most log 2. `scores` names
    the score tensors of one model that runs on two views (`graphrewrite.ir.beside.twice`); both learn. It needs no
    labels.
    """

    scores: tuple[str, ...] = ()
    weight: float = 2.0

    def __post_init__(self) -> None:
        check_several("Vml.scores", self.scores, 2, "the scores for each view")
        if len(self.scores) != 2:
            raise InvalidConfig(f"Vml.scores has {len(self.scores)} names; expected two views; name two")

    @property
    def needs(self) -> Needs:
        """The scores of both views."""
        return Needs(student=self.scores)

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the mean over samples and places.

        Raises:
            InvalidData: the two score other classes.
        """
        import torch
        from torch.nn import functional

        views = [batch.student[name].float() for name in self.scores]
        check_alike(repr(self.scores[0]), views[0].shape, repr(self.scores[1]), views[1].shape)
        axis = classes_of(self.scores[0], views[0].shape)
        logs = [functional.log_softmax(view, dim=axis) for view in views]
        middle = torch.logsumexp(torch.stack(logs), dim=0) - torch.log(torch.tensor(2.0))
        apart = [
            functional.kl_div(middle, own, reduction="none", log_target=True).sum(dim=axis).mean()
            for own in logs
        ]
        return torch.stack(apart).mean()
