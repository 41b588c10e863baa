"""What stands between a weight or activation and its readers: trained as a module, lowered into the graph."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Builder
from graphrewrite.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import nn

Draw: TypeAlias = Callable[[Builder, gs.Tensor], gs.Tensor]


@dataclass(frozen=True)
class Lowered:
    """The final form of a transform.

    Attributes:
        weight: what is stored instead of the weight, in any element type; None leaves the tensor as it is.
        draw: draws nodes from that tensor to what its readers get; None when they read it as it is. Constants come
            from `Builder.constant`.
    """

    weight: Array | None = None
    draw: Draw | None = None


@runtime_checkable
class WeightTransform(Protocol):
    """A frozen dataclass whose fields are its settings.

    Both forms work in float32, whatever the graph around them is in. `tolerance` says how far the graph it lowers to
    may be from the trained module: largest difference by largest value.
    """

    @property
    def tolerance(self) -> float:
        """Relative difference between module and graph."""
        ...

    def module(self, weight: "torch.Tensor | None") -> "nn.Module":
        """Return the trainable form, a module of one tensor; `weight` is None where it stands behind an activation."""
        ...

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the final form, given the trained weight and the trained module's own state."""
        ...


@runtime_checkable
class Advancing(Protocol):
    """A trainable form that changes in the course of a stage: a threshold that moves, a range that is frozen later."""

    def advance(self, done: float) -> None:
        """Take up the place in the stage, the share of its steps that lies behind, before each step.

        What `lower` needs of it belongs into a buffer.
        """
        ...


def check_bits(name: str, bits: int, lowest: int = 2, highest: int = 8) -> None:
    """Refuse numbers of bits that the codes of something called `name` cannot have.

    Raises:
        InvalidConfig: it is below `lowest` or above `highest`.
    """
    if isinstance(bits, bool) or not lowest <= bits <= highest:
        raise InvalidConfig(f"{name}.bits is {bits!r}; it must be from {lowest} to {highest}; correct it")


def straight_through(value: "torch.Tensor", instead: "torch.Tensor") -> "torch.Tensor":
    """Return `value` to the last bit, with the gradient of `instead` (Bengio et al. 2013)."""
    return value.detach() + (instead - instead.detach())


transforms: Registry[WeightTransform] = Registry(
    "transform", package="graphrewrite.bridge.transforms", of=WeightTransform
)
