"""PAMS: even grids between two ends that are learned, the same above zero and below."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from graphrewrite.bridge.transforms.base import check_bits
from graphrewrite.passes.quant.quantizers import quantizers

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform


@quantizers.register("pams")
@dataclass(frozen=True)
class Pams:
    """Parameterized max scale: symmetric grids, the end of an activation's learned after a warm-up (Li et al. 2020).

    Args:
        bits: of weights and activations, 2 to 8; 2^bits - 1 levels, also where nothing lies below zero.
        warmup: share of a stage's steps in which ends are running means of the largest values; the paper has one of
            30 epochs.
        decay: how much of the running mean is kept at a step.
        transform_rate: factor on the rate for ends. The paper has 100, 0.01 beside 0.0001, for pictures of 0 to 255; an
            end among activations near 1 runs away with that.
    """

    bits: int = 4
    warmup: float = 1 / 30
    decay: float = 0.9997
    transform_rate: float = 10.0

    asks: ClassVar[tuple[str, ...]] = ("data", "torch")

    def __post_init__(self) -> None:
        check_bits("Pams", self.bits)

    def weight(self, axis: int) -> "WeightTransform":
        """Return a grid up to the largest weight, one for all outputs."""
        from graphrewrite.bridge.transforms.clip import ClipQuantize

        return ClipQuantize(self.bits)

    def activation(self, signed: bool) -> "WeightTransform":
        """Return a grid with learned ends, signed in any case."""
        from graphrewrite.bridge.transforms.clip import ClipQuantize

        return ClipQuantize(self.bits, self.warmup, self.decay)

    def between(self, bits: int) -> "Pams":
        """Return the same with other bits."""
        return replace(self, bits=bits)
