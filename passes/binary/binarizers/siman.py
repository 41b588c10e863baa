"""Codes of weights by magnitude instead of sign."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.bridge.recipe import Stage
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array
from graphrewrite.match import Draft
from graphrewrite.passes.binary.around import less_mean, mean_sizes, sized
from graphrewrite.passes.binary.binarizers import Binarizer, binarizers

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform


@binarizers.register("siman")
@dataclass(frozen=True)
class Siman(Binarizer):
    """SiMaN: +1 for the larger half of a filter's |w|, -1 for the rest, trained without decay (Lin et al. 2021).

    Signs of activations are taken about the mean of the sample, which stays in the graph. Sums are multiplied by a
    learned size per filter.

    Args:
        percent: share of a layer's |w| that is drawn in at either end in each step; it falls to 0 over a stage.
        ones: "half" of a filter becomes +1, or as many as bring the code nearest to |w|, "best".
    """

    percent: float = 15.0
    ones: Literal["half", "best"] = "half"

    def weight(self, stage: Stage) -> "WeightTransform":
        """Return codes by size."""
        from graphrewrite.bridge.transforms.half_sign import HalfSign

        return HalfSign(self.percent, self.ones)

    def activation(self, stage: Stage) -> "WeightTransform":
        """Return signs with the gradient of the parabola."""
        from graphrewrite.bridge.transforms.approx_sign import ApproxSign

        return ApproxSign("deviation")

    def undecayed(self, binary: Sequence[str], ranks: Mapping[str, int]) -> tuple[str, ...]:
        """Return the weights of binary layers: decay would make few of them large."""
        return tuple(binary)

    def before(self, draft: Draft, x: gs.Tensor, channels: int) -> gs.Tensor:
        """Write the difference from the mean."""
        return less_mean(draft, x)

    def behind(self, draft: Draft, sums: gs.Tensor, filters: Array) -> gs.Tensor:
        """Write the learned size."""
        return sized(draft, sums, mean_sizes(filters))


def siman_code(weight: Array, ones: int | None = None) -> npt.NDArray[np.bool_]:
    """Return the {0, 1} code of a filter that points most nearly where |w| does, [numbers] (Lin et al. 2021).

    `ones` fixes how many are 1; without it the best number is found.

    Raises:
        InvalidConfig: the filter has fewer numbers than that.
    """
    sizes = np.abs(np.asarray(weight, np.float64)).reshape(-1)
    if ones is not None and not 1 <= ones <= len(sizes):
        raise InvalidConfig(
            f"siman_code was asked for {ones} ones of {len(sizes)} numbers; expected 1 to {len(sizes)}; correct it"
        )
    order = np.argsort(-sizes, kind="stable")
    if ones is None:
        ones = int(np.argmax(np.cumsum(sizes[order]) / np.sqrt(np.arange(1, len(sizes) + 1)))) + 1
    code = np.zeros(len(sizes), np.bool_)
    code[order[:ones]] = True
    return code
