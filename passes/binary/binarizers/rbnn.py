"""Weights that are rotated towards their signs before these are taken."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from graphrewrite.bridge.recipe import Stage
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array
from graphrewrite.match import Draft
from graphrewrite.passes.binary.around import less_mean, mean_sizes, sized
from graphrewrite.passes.binary.binarizers import Binarizer, binarizers

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform


@binarizers.register("rbnn")
@dataclass(frozen=True)
class Rbnn(Binarizer):
    """RBNN: filters are rotated towards their signs, by a share that is learned (Lin et al. 2020).

    Signs of activations are taken about the mean of the sample, which stays in the graph; no rotation does. Sums are
    multiplied by a learned size per filter.

    Args:
        every: epochs from one rotation to the next.
        rounds: steps in which a rotation is found.
        steep: how steep gradients through signs are at the start and at the end of a stage.
        detach_rotation: let no gradient pass the rotated weights, as the authors' code does.
    """

    every: int = 1
    rounds: int = 3
    steep: tuple[float, float] = (0.01, 10.0)
    detach_rotation: bool = False

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InvalidConfig(f"Rbnn.every is {self.every}; expected 1 epoch or more; correct it")

    def weight(self, stage: Stage) -> "WeightTransform":
        """Return signs of the rotated weight."""
        from graphrewrite.bridge.transforms.rotated_sign import RotatedSign

        updates = -(-stage.epochs // self.every)
        return RotatedSign(updates, self.rounds, self.steep, self.detach_rotation)

    def activation(self, stage: Stage) -> "WeightTransform":
        """Return signs whose gradient grows steeper."""
        from graphrewrite.bridge.transforms.approx_sign import ApproxSign

        return ApproxSign("deviation", self.steep)

    def before(self, draft: Draft, x: gs.Tensor, channels: int) -> gs.Tensor:
        """Write the difference from the mean."""
        return less_mean(draft, x)

    def behind(self, draft: Draft, sums: gs.Tensor, filters: Array) -> gs.Tensor:
        """Write the learned size."""
        return sized(draft, sums, mean_sizes(filters))
