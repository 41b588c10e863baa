"""N2UQ: activations are compared with learned thresholds, weights lie on levels that are taken equally often."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphrewrite.bridge.transforms.base import check_bits
from graphrewrite.passes.quant.quantizers import quantizers
from graphrewrite.passes.quant.quantizers.lsq import Lsq

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform


@quantizers.register("n2uq")
@dataclass(frozen=True)
class N2uq:
    """Nonuniform to uniform: uneven thresholds, even levels (Liu et al. 2022).

    Args:
        bits: of weights and activations, 2 to 7.
        narrowest: least width of an interval between thresholds, where the average is 2 / (2^bits - 1).
        transform_rate: factor on the rate for thresholds and scales; 0.1 is the paper's.
    """

    bits: int = 2
    narrowest: float = 1e-3
    transform_rate: float = 0.1

    asks: ClassVar[tuple[str, ...]] = ("data", "torch")

    def __post_init__(self) -> None:
        check_bits("N2uq", self.bits, highest=7)

    def weight(self, axis: int) -> "WeightTransform":
        """Return levels for each output."""
        from graphrewrite.bridge.transforms.levels import LevelQuantize

        return LevelQuantize(self.bits, axis)

    def activation(self, signed: bool) -> "WeightTransform":
        """Return thresholds; where something lies below zero, half of the levels do."""
        from graphrewrite.bridge.transforms.thresholds import LearnedThresholds

        return LearnedThresholds(self.bits, signed, self.narrowest)

    def between(self, bits: int) -> Lsq:
        """Return learned steps: counts of thresholds, compared with them again, are other counts."""
        return Lsq(bits)
