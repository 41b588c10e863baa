"""What a way of training binary layers is: two transforms, and what it puts into the graph around them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from graphrewrite.bridge.recipe import Stage
from graphrewrite.ir import Array
from graphrewrite.match import Draft

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform


class Binarizer(ABC):
    """A frozen dataclass whose fields are its settings.

    The transforms are there while training, and leave +1 and -1 behind, a weight's times one size per filter. What is
    put around a layer stays: learned with the weights, and later folded by `LowerBinaryConv` as far as it is one
    function per channel of the sums.
    """

    @abstractmethod
    def weight(self, stage: Stage) -> "WeightTransform":
        """Return what makes signs of a weight during a stage."""

    @abstractmethod
    def activation(self, stage: Stage) -> "WeightTransform":
        """Return what makes signs of an activation during a stage."""

    def undecayed(self, binary: Sequence[str], ranks: Mapping[str, int]) -> tuple[str, ...]:
        """Return the weights that decay leaves alone, of all in `ranks`; `binary` are those of binary layers."""
        return ()

    def before(self, draft: Draft, x: gs.Tensor, channels: int) -> gs.Tensor:
        """Write what stands between an activation [samples, channels, height, width] and its signs; return its end."""
        return x

    def behind(self, draft: Draft, sums: gs.Tensor, filters: Array) -> gs.Tensor:
        """Write what the sums of a layer go through first; `filters` is its weight as it was; return the end."""
        return sums

    def rectifier(self, draft: Draft, x: gs.Tensor, channels: int) -> gs.Tensor | None:
        """Write what takes a rectifier's place before a binary layer; None leaves it, and takes signs before it."""
        return None
