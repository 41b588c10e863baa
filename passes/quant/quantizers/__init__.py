"""How numbers are rounded in training, and what of it is learned: one quantizer per file, found by name."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from graphrewrite.registry import Registry

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform


@runtime_checkable
class Quantizer(Protocol):
    """A frozen dataclass whose fields are its settings; what it attaches lies in `graphrewrite.bridge.transforms`."""

    @property
    def bits(self) -> int:
        """Bits of a weight and of what layers read."""
        ...

    @property
    def transform_rate(self) -> float:
        """What the learning rate is multiplied by for what the quantizer learns."""
        ...

    def weight(self, axis: int) -> "WeightTransform":
        """Return what rounds a weight whose outputs lie on `axis`."""
        ...

    def activation(self, signed: bool) -> "WeightTransform":
        """Return what rounds an activation, which goes below zero where it is `signed`."""
        ...

    def between(self, bits: int) -> "Quantizer":
        """Return what rounds tensors that bytes of are moved about or added up: on such grids nothing is lost twice."""
        ...


quantizers: Registry[Quantizer] = Registry("quantizer", package=__name__, of=Quantizer)

__all__ = ["Quantizer", "quantizers"]
