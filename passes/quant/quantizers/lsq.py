"""LSQ: the steps of even grids are learned with the weights."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from graphrewrite.bridge.transforms.base import check_bits
from graphrewrite.passes.quant.quantizers import quantizers

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform


@quantizers.register("lsq")
@dataclass(frozen=True)
class Lsq:
    """Learned step sizes for weights and activations (Esser et al. 2020).

    Args:
        bits: of both, 2 to 8.
        per_channel: a step for each output of a weight; the paper has one for all.
        transform_rate: factor on the rate for steps; 1 is the paper's, whose gradients are scaled down by themselves.
    """

    bits: int = 4
    per_channel: bool = True
    transform_rate: float = 1.0

    asks: ClassVar[tuple[str, ...]] = ("data", "torch")

    def __post_init__(self) -> None:
        check_bits("Lsq", self.bits)

    def weight(self, axis: int) -> "WeightTransform":
        """Return a signed grid."""
        from graphrewrite.bridge.transforms.step import StepQuantize

        return StepQuantize(self.bits, True, axis if self.per_channel else None)

    def activation(self, signed: bool) -> "WeightTransform":
        """Return a grid with one step, from zero up where nothing lies below."""
        from graphrewrite.bridge.transforms.step import StepQuantize

        return StepQuantize(self.bits, signed)

    def between(self, bits: int) -> "Lsq":
        """Return the same with other bits."""
        return replace(self, bits=bits)
