"""Taylor expansion in the weights: a channel is worth what zeroing its weights one by one would change the loss."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphrewrite.dims import ChannelGroup
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.channels import gradients
from graphrewrite.passes.channels.criteria import Evidence, criteria
from graphrewrite.passes.channels.evidence import GradientNeed, Scores

_KEY = "taylor"


@criteria.register("taylor")
@dataclass(frozen=True)
class Taylor:
    """Sum of (gradient * weight)^2 over the filters that make a unit and the slices that read it.

    Molchanov et al., 2019: their first-order form by weights (not by gates), a sum of squares (not the square of a
    sum). A unit of a residual group sums over all layers that are joined there. Gradients are those of batches of
    `batch` samples, and their squares are averaged over the batches. Needs data and torch. The loss is a random
    projection of the outputs, whose squared gradient says how far they would move, or with `loss="labels"` the
    cross-entropy of the data's classes, as published (`graphrewrite.bridge.gradients`); of a trained net little is left
    of the latter's gradient but noise.
    """

    batch: int = 32
    loss: Literal["outputs", "labels"] = "outputs"

    def __post_init__(self) -> None:
        gradients.check_loss("Taylor", self.loss)
        if isinstance(self.batch, bool) or self.batch < 1:
            raise InvalidConfig(f"Taylor.batch is {self.batch!r}; expected a number of samples, 1 or more")

    def needs(self, group: ChannelGroup) -> tuple[GradientNeed, ...]:
        """Ask for the gradients of all weights that make or read the group."""
        members = [member for member in group.members if member.role in ("producer", "consumer")]
        return gradients.need(group, _KEY, members, np.square, np.asarray, self.loss, self.batch)

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        """Return [units]."""
        return gradients.score(group, evidence, _KEY)
