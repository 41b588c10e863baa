"""Patterns are drawn by calling: `P.Relu(P.Conv(P.x, P.const("w"), ...).named("conv"))`.

A pattern is a value: it holds no state of a match and may be used by several rules at once. It is drawn from the
last node backwards to what feeds it. `...` as the last argument stands for any further inputs, present or left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import TypeAlias

Test: TypeAlias = Callable[[object], bool]
Argument: TypeAlias = "Pattern | None | EllipsisType"

# Two inputs in either order mean the same.
COMMUTATIVE = frozenset(
    {"Add", "Mul", "And", "Or", "Xor", "Equal", "Max", "Min", "Sum", "Mean", "BitwiseAnd", "BitwiseOr"}
)


class Pattern:
    """Something a tensor can match; the subclasses are the kinds there are."""

    @property
    def depth(self) -> int:
        """Return how many nodes lie on the longest path through the pattern."""
        return 0


@dataclass(frozen=True)
class Anything(Pattern):
    """Any tensor. Under a name, all its occurrences must be the same tensor; calling it draws a node of that type."""

    name: str = ""

    def __call__(self, *arguments: Argument, **attributes: object) -> "Op":
        """Draw a node of type `name`; attributes are values to equal, or tests such as `lambda v: v > 0`."""
        return draw((self.name,), *arguments, **attributes)


@dataclass(frozen=True)
class Const(Pattern):
    """A tensor whose numbers cannot change between runs."""

    name: str = ""


@dataclass(frozen=True)
class Number(Pattern):
    """A constant of one element (any rank), or one whose elements are all equal: `value` when given, to 1e-5."""

    value: float | None = None
    name: str = ""


@dataclass(frozen=True)
class OneOf(Pattern):
    """The first of several patterns that matches."""

    options: tuple[Pattern, ...]

    @property
    def depth(self) -> int:
        """Return the greatest depth of the options."""
        return max(option.depth for option in self.options)


@dataclass(frozen=True)
class Op(Pattern):
    """A node of one of `op_types` in the default domain, seen from its output number `output`."""

    op_types: tuple[str, ...]
    inputs: tuple[Pattern | None, ...] = ()
    open_ended: bool = False
    attributes: tuple[tuple[str, object], ...] = ()
    name: str = ""
    output: int = 0

    def named(self, name: str) -> "Op":
        """Return the same pattern with the node bound to a name."""
        return replace(self, name=name)

    def out(self, index: int) -> "Op":
        """Return the same pattern seen from another output of the node."""
        return replace(self, output=index)

    @property
    def depth(self) -> int:
        """Return one more than the deepest input."""
        return 1 + max((part.depth for part in self.inputs if part is not None), default=0)


def draw(op_types: tuple[str, ...], *arguments: Argument, **attributes: object) -> Op:
    """Draw a node whose type is any of several, for families that take the same inputs."""
    open_ended = bool(arguments) and arguments[-1] is ...
    inputs = arguments[:-1] if open_ended else arguments
    if any(part is ... for part in inputs):
        raise TypeError("`...` stands for further inputs and can only be the last argument of a pattern")
    return Op(op_types, tuple(inputs), open_ended, tuple(attributes.items()))  # type: ignore[arg-type]


class Drawer:
    """Draws patterns: `P.Conv(...)` is a node, `P.x` any tensor under the name x, `P.any` any tensor at all."""

    any = Anything()

    def __getattr__(self, name: str) -> Anything:
        if name.startswith("_"):
            raise AttributeError(name)
        return Anything(name)

    def const(self, name: str = "") -> Const:
        """Draw a constant."""
        return Const(name)

    def number(self, value: float | None = None, name: str = "") -> Number:
        """Draw a constant that is one number."""
        return Number(value, name)

    def one_of(self, *options: Pattern) -> OneOf:
        """Draw alternatives, tried in order."""
        return OneOf(options)

    def op(self, op_types: tuple[str, ...], *arguments: Argument, **attributes: object) -> Op:
        """Draw a node of any of several types."""
        return draw(op_types, *arguments, **attributes)


P = Drawer()
