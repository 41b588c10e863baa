"""Signs as they are: what other binarizers are compared with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.recipe import Stage
from graphrewrite.passes.binary.binarizers import Binarizer, binarizers

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform


@binarizers.register("sign")
@dataclass(frozen=True)
class PlainSign(Binarizer):
    """Signs of weights, times the mean size of a filter (Rastegari et al. 2016), and signs of activations.

    Gradients pass both where |x| <= 1 (Hubara et al. 2016).
    """

    def weight(self, stage: Stage) -> "WeightTransform":
        """Return scaled signs."""
        from graphrewrite.bridge.transforms.sign import Sign

        return Sign()

    def activation(self, stage: Stage) -> "WeightTransform":
        """Return signs with the clipped gradient."""
        from graphrewrite.bridge.transforms.sign import Sign

        return Sign()
