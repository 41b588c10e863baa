"""One node seen with the sizes of the tensors around it: what a counting rule gets to look at."""

from collections.abc import Callable
from math import prod
from typing import TypeAlias, TypeVar

import onnx_graphsurgeon as gs

from graphrewrite.ir import Array

Sizes: TypeAlias = tuple[int, ...]
SizesOf: TypeAlias = Callable[[str], Sizes | None]
NumbersOf: TypeAlias = Callable[[str], Array | None]
T = TypeVar("T", int, float, str)


class Unsized(Exception):
    """A rule needs the sizes of a tensor that nobody knows; the message is that tensor's name."""


class Site:
    """A node, its attributes, and the sizes of its inputs and outputs.

    `sizes_of` and `numbers_of` answer by tensor name. A constant that `sizes_of` does not know has its stored sizes, so
    a caller that asks "what if this weight were smaller" overrides sizes without touching the model. `opset` is the
    version of the default operator set, for the few operators whose defaults changed.
    """

    __slots__ = ("_numbers_of", "_sizes_of", "node", "opset")

    def __init__(self, node: gs.Node, sizes_of: SizesOf, numbers_of: NumbersOf, opset: int) -> None:
        self.node = node
        self.opset = opset
        self._sizes_of = sizes_of
        self._numbers_of = numbers_of

    def has(self, index: int) -> bool:
        """Whether the optional input at `index` is given."""
        inputs = self.node.inputs
        return index < len(inputs) and inputs[index].name != ""

    def input(self, index: int) -> Sizes:
        """Return the sizes of an input.

        Raises:
            Unsized: they are unknown, or the input is not there.
        """
        inputs = self.node.inputs
        if index >= len(inputs):
            raise Unsized(f"input {index}")
        return self._sizes(inputs[index])

    def output(self, index: int = 0) -> Sizes:
        """Return the sizes of an output.

        Raises:
            Unsized: they are unknown, or the output is not there.
        """
        outputs = self.node.outputs
        if index >= len(outputs):
            raise Unsized(f"output {index}")
        return self._sizes(outputs[index])

    def input_count(self, index: int = 0) -> int:
        """Return the number of elements of an input."""
        return prod(self.input(index))

    def output_count(self, index: int = 0) -> int:
        """Return the number of elements of an output."""
        return prod(self.output(index))

    def numbers(self, index: int) -> Array | None:
        """Return the values of an input when they do not depend on what the model is fed, else None."""
        return self._numbers_of(self.node.inputs[index].name) if self.has(index) else None

    def attr(self, name: str, default: T) -> T:
        """Return an attribute, or the default when it is absent or of another kind."""
        value = self.node.attrs.get(name, default)
        return value if isinstance(value, type(default)) else default

    def int_list(self, name: str) -> list[int] | None:
        """Return an attribute that lists integers, or None."""
        value = self.node.attrs.get(name)
        return [int(entry) for entry in value] if isinstance(value, (list, tuple)) else None

    def _sizes(self, tensor: gs.Tensor) -> Sizes:
        sizes = self._sizes_of(tensor.name)
        if sizes is None:
            if not isinstance(tensor, gs.Constant):
                raise Unsized(tensor.name)
            sizes = tuple(tensor.shape)
        return sizes
