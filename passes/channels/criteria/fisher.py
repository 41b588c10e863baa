"""Fisher information of a gate: a channel is worth the squared gradient of a switch that would turn it off."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphrewrite.dims import ChannelGroup
from graphrewrite.passes.channels import gradients
from graphrewrite.passes.channels.criteria import Evidence, criteria
from graphrewrite.passes.channels.evidence import GradientNeed, Scores

_KEY = "fisher"


@criteria.register("fisher")
@dataclass(frozen=True)
class Fisher:
    """Mean over the samples of (sum of gradient * activation)^2, one gate for all layers that read a unit.

    Theis et al., 2018, with the sum over coupled layers inside the square (Liu et al., 2021; without their division by
    cost, which is the budget's business). The gate stands where the unit is read, so its gradient is the sum of
    gradient * weight over the slices that read it, and no activation has to be kept. A group that no weight reads has
    its gate where it is made. Samples go through one at a time, as the square belongs to a sample; of a model with a
    fixed batch a batch counts as one. Needs data and torch. The loss is as for `Taylor`.
    """

    loss: Literal["outputs", "labels"] = "outputs"

    def __post_init__(self) -> None:
        gradients.check_loss("Fisher", self.loss)

    def needs(self, group: ChannelGroup) -> tuple[GradientNeed, ...]:
        """Ask for the gradients of the weights that read the group."""
        by_role = {
            role: [m for m in group.members if m.role == role] for role in ("consumer", "producer", "vector")
        }
        members = next((found for found in by_role.values() if found), [])
        return gradients.need(group, _KEY, members, np.asarray, np.square, self.loss, 1)

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        """Return [units]."""
        return gradients.score(group, evidence, _KEY)
