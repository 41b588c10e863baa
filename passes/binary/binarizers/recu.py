"""Weights far from 0 are pulled in, so that their signs can still change."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.bridge.recipe import Stage
from graphrewrite.ir import Array
from graphrewrite.match import Draft
from graphrewrite.passes.binary.around import sized
from graphrewrite.passes.binary.binarizers import Binarizer, binarizers

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform


@binarizers.register("recu")
@dataclass(frozen=True)
class Recu(Binarizer):
    """ReCU: filters are standardized and clamped at a quantile that moves outwards (Xu et al. 2021).

    Sums are multiplied by a learned size per filter, drawn between 0 and 1 at first. Gradients pass an activation's
    sign by a parabola, whose unit is the deviation within the sample.

    Args:
        tau: the quantile at the start and at the end of a stage.
        in_place: store the clamped weights in each step; the authors' code clamps what is computed from them only.
    """

    tau: tuple[float, float] = (0.85, 0.99)
    in_place: bool = False

    def weight(self, stage: Stage) -> "WeightTransform":
        """Return signs of the clamped weight."""
        from graphrewrite.bridge.transforms.recu_sign import RecuSign

        return RecuSign(self.tau, self.in_place)

    def activation(self, stage: Stage) -> "WeightTransform":
        """Return signs with the gradient of the parabola."""
        from graphrewrite.bridge.transforms.approx_sign import ApproxSign

        return ApproxSign("deviation")

    def behind(self, draft: Draft, sums: gs.Tensor, filters: Array) -> gs.Tensor:
        """Write the learned size."""
        assert draft.anchor is not None
        drawn = np.random.default_rng(crc32(str(draft.anchor.name).encode())).random(len(filters))
        return sized(draft, sums, np.asarray(drawn, np.float32))
