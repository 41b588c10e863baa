"""Activations that are shifted before their signs are taken, and rectified with learned slopes and shifts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from graphrewrite.bridge.recipe import Stage
from graphrewrite.match import Draft
from graphrewrite.passes.binary.around import bent, shifted
from graphrewrite.passes.binary.binarizers import Binarizer, binarizers

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform


@binarizers.register("react")
@dataclass(frozen=True)
class React(Binarizer):
    """ReActNet: RSign before and RPReLU behind binary layers, shifts and slopes learned per channel (Liu et al. 2020).

    A rectifier before a binary layer becomes RPReLU; signs are taken behind it, after a shift. Weights are signs times
    the mean size of a filter, held while gradients are taken. Decay, where there is any, is of filters alone.
    """

    def weight(self, stage: Stage) -> "WeightTransform":
        """Return scaled signs."""
        from graphrewrite.bridge.transforms.sign import Sign

        return Sign(holds_scale=True)

    def activation(self, stage: Stage) -> "WeightTransform":
        """Return signs with the gradient of the parabola."""
        from graphrewrite.bridge.transforms.approx_sign import ApproxSign

        return ApproxSign()

    def undecayed(self, binary: Sequence[str], ranks: Mapping[str, int]) -> tuple[str, ...]:
        """Return all but the filters of convolutions."""
        return tuple(name for name, rank in ranks.items() if rank != 4)

    def before(self, draft: Draft, x: gs.Tensor, channels: int) -> gs.Tensor:
        """Write the shift of RSign."""
        return shifted(draft, x, channels)

    def rectifier(self, draft: Draft, x: gs.Tensor, channels: int) -> gs.Tensor | None:
        """Write RPReLU."""
        return bent(draft, x, channels)
